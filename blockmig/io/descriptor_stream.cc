// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/descriptor_stream.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "blockmig/io/gather.h"
#include "blockmig/io/hang_up.h"

namespace blockmig {
namespace {

constexpr std::size_t kPartsPerCall = 128;

class DescriptorStream final : public Stream {
 public:
  DescriptorStream(IoLoop& loop, UniqueFd in, UniqueFd out)
      : in_(std::move(in)),
        out_(std::move(out)),
        in_watch_(loop.watch(in_.get())),
        out_watch_(loop.watch(out_.get())) {}
  ~DescriptorStream() override {
    in_watch_.reset();
    out_watch_.reset();
  }

  Task<Result<std::size_t>> read_some(MutableBytes into) override;
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override;
  Task<Status> write_all(std::span<const ConstBytes> parts) override;
  bool peer_has_ended() const override { return shut_ || has_hung_up(in_.get()); }
  bool peer_is_gone() const override { return shut_ || is_gone(out_.get()); }
  void shutdown() override;
  std::string peer_name() const override { return "stdio"; }

 private:
  UniqueFd in_;
  UniqueFd out_;
  std::unique_ptr<FdWatch> in_watch_;
  std::unique_ptr<FdWatch> out_watch_;
  bool shut_ = false;
};

/// Like read(2), with a negative errno.
ssize_t read_from(int fd, MutableBytes into) {
  for (;;) {
    const ssize_t got = ::read(fd, into.data(), into.size());
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

ssize_t write_to(int fd, const Gather& gather) {
  std::array<iovec, kPartsPerCall> parts;
  const ssize_t sent = ::writev(fd, parts.data(), static_cast<int>(gather.fill(parts)));
  return sent < 0 ? -errno : sent;
}

Error failed(ssize_t result, const char* what) {
  return Error::from_errno(static_cast<int>(-result), what);
}

Error shut_down_error() {
  return Error(ErrorCode::kDisconnected, "the connection on stdio was shut down");
}

Task<Result<std::size_t>> DescriptorStream::read_some(MutableBytes into) {
  while (!shut_ && !into.empty()) {
    const ssize_t got = read_from(in_.get(), into);
    if (got >= 0) co_return static_cast<std::size_t>(got);
    if (got != -EAGAIN) co_return failed(got, "receive from stdio");
    const bool watched = co_await in_watch_->readable();
    if (!watched) break;
  }
  if (shut_ || into.empty()) co_return std::size_t{0};
  co_return Error(ErrorCode::kIo, "receive from stdio: the descriptor cannot be watched");
}

Result<std::size_t> DescriptorStream::try_read(MutableBytes into, bool* ended) {
  if (shut_) *ended = true;
  if (shut_ || into.empty()) return std::size_t{0};
  const ssize_t got = read_from(in_.get(), into);
  if (got > 0) return static_cast<std::size_t>(got);
  if (got == 0) *ended = true;
  if (got == 0 || got == -EAGAIN) return std::size_t{0};
  return failed(got, "receive from stdio");
}

Task<Status> DescriptorStream::write_all(std::span<const ConstBytes> parts) {
  Gather gather(parts);
  while (!gather.finished()) {
    if (shut_) co_return shut_down_error();
    const ssize_t sent = write_to(out_.get(), gather);
    if (sent >= 0) {
      gather.advance(static_cast<std::size_t>(sent));
      continue;
    }
    if (sent == -EINTR) continue;
    if (sent != -EAGAIN) co_return failed(sent, "send to stdio");
    const bool watched = co_await out_watch_->writable();
    if (!watched) co_return shut_down_error();
  }
  co_return Status();
}

void DescriptorStream::shutdown() {
  if (std::exchange(shut_, true)) return;
  in_watch_->cancel();
  out_watch_->cancel();
}

Status make_non_blocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags >= 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0) return {};
  return Error::from_errno(errno, "descriptor " + std::to_string(fd));
}

}  // namespace

Result<std::unique_ptr<Stream>> adopt_descriptors(IoLoop& loop, UniqueFd in, UniqueFd out) {
  for (const int fd : {in.get(), out.get()}) {
    const Status prepared = make_non_blocking(fd);
    if (!prepared) return prepared.error();
  }
  return std::unique_ptr<Stream>(
      std::make_unique<DescriptorStream>(loop, std::move(in), std::move(out)));
}

}  // namespace blockmig

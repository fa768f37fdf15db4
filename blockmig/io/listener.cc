// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "blockmig/io/event.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/listening_socket.h"
#include "blockmig/io/raw_address.h"
#include "blockmig/io/socket_stream.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

/// How long accept() waits for descriptors to be closed before it looks again.
constexpr auto kNoDescriptorsPause = std::chrono::milliseconds(50);

class SocketListener final : public Listener {
 public:
  /// `ours`: nobody else's, so that closing it ends it for everybody and removes its file.
  SocketListener(IoLoop& loop, UniqueFd socket, SocketAddress address, SocketAddress asked,
                 bool ours)
      : loop_(loop),
        socket_(std::move(socket)),
        watch_(loop.watch(socket_.get())),
        closed_(loop),
        address_(std::move(address)),
        asked_(std::move(asked)),
        ours_(ours) {
    if (is_unix() && ours_) file_ = identify_file(address_.path);
  }
  ~SocketListener() override { close(); }

  Task<Result<std::unique_ptr<Stream>>> accept() override;
  void close() override;
  int release() override;
  bool owns_address() const override { return ours_; }
  Status set_access(const UnixSocketOptions& options) override {
    return is_unix() && ours_ ? set_socket_access(address_, options, file_) : Status();
  }
  const SocketAddress& address() const override { return address_; }
  const SocketAddress& asked() const override { return asked_; }

 private:
  bool is_unix() const { return address_.family == SocketAddress::Family::kUnix; }
  std::unique_ptr<Stream> make_stream(UniqueFd connection, const RawAddress& peer);

  IoLoop& loop_;
  UniqueFd socket_;
  std::unique_ptr<FdWatch> watch_;
  Event closed_;
  SocketAddress address_;
  SocketAddress asked_;
  const bool ours_;
  FileIdentity file_;
};

bool lacks_descriptors(int os_errno) {
  return os_errno == EMFILE || os_errno == ENFILE || os_errno == ENOBUFS || os_errno == ENOMEM;
}

/// The errors of the listener itself; every other one is of the connection that was to be accepted
/// (accept(2): "treat them like EAGAIN").
bool is_fatal(int os_errno) {
  return os_errno == EBADF || os_errno == EINVAL || os_errno == ENOTSOCK ||
         os_errno == EOPNOTSUPP || os_errno == EFAULT;
}

Task<Result<std::unique_ptr<Stream>>> SocketListener::accept() {
  while (!closed_.is_set()) {
    RawAddress peer;
    peer.length = sizeof peer.storage;
    UniqueFd connection(
        ::accept4(socket_.get(), peer.get(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    const int failure = errno;
    if (connection) co_return make_stream(std::move(connection), peer);
    if (failure == EAGAIN) {
      const bool watched = co_await watch_->readable();
      if (!watched) break;
    } else if (lacks_descriptors(failure)) {
      // The connection stays queued, but no edge will report it again.
      const TimePoint next_look = loop_.now() + kNoDescriptorsPause;
      co_await closed_.wait_until(next_look);
    } else if (is_fatal(failure)) {
      co_return Error::from_errno(failure, "accept on " + address_.to_string());
    }
  }
  co_return Error(ErrorCode::kCancelled, "listener " + address_.to_string() + " was closed");
}

std::unique_ptr<Stream> SocketListener::make_stream(UniqueFd connection, const RawAddress& peer) {
  tune_connection(connection.get(), peer);
  // A unix client has no name of its own.
  std::string name = is_unix() ? address_.to_string() : to_socket_address(peer).to_string();
  return std::make_unique<SocketStream>(loop_, std::move(connection), std::move(name));
}

void SocketListener::close() {
  if (closed_.is_set()) return;
  if (ours_) {
    if (is_unix() && identify_file(address_.path) == file_) (void)::unlink(address_.path.c_str());
    // Frees the port and refuses clients although accept() may still hold the descriptor for a
    // moment. One that was given to us must stay usable for its owner.
    (void)::shutdown(socket_.get(), SHUT_RDWR);
  }
  closed_.set();
  watch_->cancel();
}

int SocketListener::release() {
  if (closed_.is_set()) return -1;
  closed_.set();
  watch_->cancel();
  // accept() may still be about to wake with this one's number.
  return ::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 0);
}

bool may_have_become(const SocketAddress& asked, const SocketAddress& bound) {
  if (asked.family != bound.family) return false;
  if (asked.family != SocketAddress::Family::kTcp) return asked.to_string() == bound.to_string();
  return asked.port == 0 || asked.port == bound.port;
}

}  // namespace

Result<std::unique_ptr<Listener>> listen_on(IoLoop& loop, const SocketAddress& address,
                                            const UnixSocketOptions& options) {
  auto opened = open_listening_socket(address, options);
  if (!opened) return opened.error();
  UniqueFd socket = *std::move(opened);
  SocketAddress actual = address;
  if (address.family != SocketAddress::Family::kUnix) {
    const auto bound = local_address(socket.get());
    if (!bound) return bound.error();
    const SocketAddress with_port = to_socket_address(*bound);
    actual.port = with_port.port;
    actual.vsock_port = with_port.vsock_port;
  }
  return std::unique_ptr<Listener>(
      std::make_unique<SocketListener>(loop, std::move(socket), std::move(actual), address, true));
}

Result<std::unique_ptr<Listener>> adopt_listener(IoLoop& loop, int fd, bool owned,
                                                 const std::optional<SocketAddress>& asked) {
  UniqueFd socket(fd);
  const std::string what = "descriptor " + std::to_string(fd);
  const Status prepared = prepare_adopted(fd);
  if (!prepared) return prepared.error();
  int listening = 0;
  socklen_t length = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0) {
    return Error::from_errno(errno, what);
  }
  if (listening == 0) return Error(ErrorCode::kInvalid, what + " is not a listening socket");
  const auto bound = local_address(fd);
  if (!bound) return bound.error().with_context(what);
  SocketAddress address = to_socket_address(*bound);
  const bool known = asked && may_have_become(*asked, address);
  if (known && address.family == SocketAddress::Family::kTcp) address.host = asked->host;
  return std::unique_ptr<Listener>(std::make_unique<SocketListener>(
      loop, std::move(socket), address, known ? *asked : address, owned));
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/pipe_stream.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "blockmig/base/check.h"
#include "blockmig/io/event.h"
#include "blockmig/io/gather.h"

namespace blockmig {
namespace {

/// One direction: a ring of bytes.
class Channel final {
 public:
  Channel(EventLoop& loop, std::size_t capacity_bytes) : changed(loop), ring_(capacity_bytes) {}

  bool empty() const { return size_ == 0; }
  std::size_t put(ConstBytes from) {
    const std::size_t count = std::min(from.size(), ring_.size() - size_);
    const std::size_t tail = (head_ + size_) % ring_.size();
    const std::size_t before_wrap = std::min(count, ring_.size() - tail);
    std::copy_n(from.data(), before_wrap, ring_.data() + tail);
    std::copy_n(from.data() + before_wrap, count - before_wrap, ring_.data());
    size_ += count;
    return count;
  }
  std::size_t take(MutableBytes into) {
    const std::size_t count = std::min(into.size(), size_);
    const std::size_t before_wrap = std::min(count, ring_.size() - head_);
    std::copy_n(ring_.data() + head_, before_wrap, into.data());
    std::copy_n(ring_.data(), count - before_wrap, into.data() + before_wrap);
    head_ = (head_ + count) % ring_.size();
    size_ -= count;
    return count;
  }

  std::size_t size() const { return size_; }

  Event changed;  ///< pulsed when bytes came or went, and when an end was shut

 private:
  std::vector<std::byte> ring_;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

struct Pipe {
  Pipe(EventLoop& loop, const PipeOptions& pipe_options)
      : options(pipe_options),
        channels{Channel(loop, options.capacity_bytes), Channel(loop, options.capacity_bytes)} {}

  const PipeOptions options;
  Channel channels[2];  ///< indexed by the end that reads from it
  bool shut[2] = {false, false};
};

class PipeEnd final : public Stream {
 public:
  PipeEnd(std::shared_ptr<Pipe> pipe, int end)
      : pipe_(std::move(pipe)),
        end_(end),
        in_(pipe_->channels[end]),
        out_(pipe_->channels[1 - end]) {}
  ~PipeEnd() override { PipeEnd::shutdown(); }

  Task<Result<std::size_t>> read_some(MutableBytes into) override;
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override;
  Task<Status> write_all(std::span<const ConstBytes> parts) override;
  std::size_t try_write(std::span<const ConstBytes> parts) override;
  bool works_in_place() const override { return true; }
  std::size_t available() override { return in_.size(); }
  bool peer_has_ended() const override { return broken(); }
  bool peer_is_gone() const override { return broken(); }
  void shutdown() override;
  std::string peer_name() const override { return "pipe"; }

 protected:
  bool begin_wait(std::coroutine_handle<> waiter) override;
  Status end_wait() override;

 private:
  bool ended() const { return pipe_->shut[end_] || (in_.empty() && pipe_->shut[1 - end_]); }
  bool broken() const { return pipe_->shut[0] || pipe_->shut[1]; }
  std::size_t take(MutableBytes into) {
    const std::size_t limit = pipe_->options.segment_bytes;
    if (limit != 0 && into.size() > limit) into = into.first(limit);
    const std::size_t count = in_.take(into);
    if (count > 0) in_.changed.pulse();
    return count;
  }

  std::shared_ptr<Pipe> pipe_;
  int end_;
  Channel& in_;
  Channel& out_;
  std::optional<Event::Waiter> wait_;  ///< of readable()
};

Task<Result<std::size_t>> PipeEnd::read_some(MutableBytes into) {
  while (!ended() && !into.empty()) {
    if (!in_.empty()) co_return take(into);
    co_await in_.changed.wait();
  }
  co_return std::size_t{0};
}

Result<std::size_t> PipeEnd::try_read(MutableBytes into, bool* ended_out) {
  if (ended()) {
    *ended_out = true;
    return std::size_t{0};
  }
  return take(into);
}

Task<Status> PipeEnd::write_all(std::span<const ConstBytes> parts) {
  Gather gather(parts);
  while (!gather.finished()) {
    if (broken()) co_return Error(ErrorCode::kDisconnected, "the pipe's other end is gone");
    const std::size_t count = out_.put(gather.front());
    gather.advance(count);
    if (count > 0) {
      out_.changed.pulse();
    } else {
      co_await out_.changed.wait();
    }
  }
  co_return Status();
}

std::size_t PipeEnd::try_write(std::span<const ConstBytes> parts) {
  if (broken()) return 0;
  std::size_t sum = 0;
  for (const ConstBytes part : parts) {
    const std::size_t count = out_.put(part);
    sum += count;
    if (count < part.size()) break;
  }
  if (sum > 0) out_.changed.pulse();
  return sum;
}

bool PipeEnd::begin_wait(std::coroutine_handle<> waiter) {
  if (ended() || broken()) return false;
  wait_.emplace(in_.changed, std::nullopt);
  wait_->await_suspend(waiter);
  return true;
}

Status PipeEnd::end_wait() {
  wait_.reset();
  return {};
}

void PipeEnd::shutdown() {
  pipe_->shut[end_] = true;
  in_.changed.pulse();
  out_.changed.pulse();
}

}  // namespace

std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> make_pipe(EventLoop& loop,
                                                                      const PipeOptions& options) {
  BM_CHECK(options.capacity_bytes > 0);
  const auto pipe = std::make_shared<Pipe>(loop, options);
  return {std::make_unique<PipeEnd>(pipe, 0), std::make_unique<PipeEnd>(pipe, 1)};
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_io.h"

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "blockmig/io/file_calls.h"

namespace blockmig {
namespace {

/// Awaits what `function` returns on one of the threads.
template <typename Function>
class ThreadCall final {
 public:
  using Value = std::invoke_result_t<Function&>;

  ThreadCall(EventLoop& loop, BlockingPool& threads, Function function)
      : loop_(loop), threads_(threads), function_(std::move(function)) {}
  ThreadCall(const ThreadCall&) = delete;
  ThreadCall& operator=(const ThreadCall&) = delete;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    threads_.submit([this, waiter] {
      value_.emplace(function_());
      loop_.post([waiter] { waiter.resume(); });
    });
  }
  Value await_resume() { return std::move(*value_); }

 private:
  EventLoop& loop_;
  BlockingPool& threads_;
  Function function_;
  std::optional<Value> value_;
};

template <typename Value, typename Function>
Task<Value> on_thread(EventLoop& loop, BlockingPool& threads, Function function) {
  ThreadCall call(loop, threads, std::move(function));
  Value value = co_await call;
  co_return std::move(value);
}

}  // namespace

FileIo::FileIo(IoLoop& loop, bool own_threads)
    : loop_(loop), threads_(own_threads ? std::make_unique<BlockingPool>(kThreads) : nullptr) {}

Task<Result<std::size_t>> FileIo::read_at(int fd, MutableBytes into, std::uint64_t offset) {
  if (!threads_) return loop_.read_at(fd, into, offset);
  return on_thread<Result<std::size_t>>(loop_, *threads_,
                                        [=] { return read_fully(fd, into, offset); });
}

Task<Result<std::size_t>> FileIo::write_at(int fd, ConstBytes from, std::uint64_t offset,
                                           bool durable) {
  if (!threads_) return loop_.write_at(fd, from, offset, durable);
  return on_thread<Result<std::size_t>>(loop_, *threads_,
                                        [=] { return write_fully(fd, from, offset, durable); });
}

Task<Status> FileIo::sync(int fd) {
  if (!threads_) return loop_.sync(fd);
  return on_thread<Status>(loop_, *threads_, [fd] { return sync_data(fd); });
}

Task<Status> FileIo::allocate(int fd, AllocateMode mode, std::uint64_t offset,
                              std::uint64_t length) {
  if (!threads_) return loop_.allocate(fd, mode, offset, length);
  return on_thread<Status>(loop_, *threads_,
                           [=] { return allocate_range(fd, mode, offset, length); });
}

}  // namespace blockmig

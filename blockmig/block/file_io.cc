// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/file_io.h"

#include <utility>

#include "blockmig/io/file_calls.h"
#include "blockmig/io/offload.h"

namespace blockmig {
namespace {

template <typename Value, typename Function>
Task<Value> on_thread(PoolCalls& threads, Function function) {
  offload call(threads, std::move(function));
  Value value = co_await call;
  co_return std::move(value);
}

}  // namespace

FileIo::FileIo(IoLoop& loop, bool own_threads)
    : loop_(loop), threads_(own_threads ? std::make_unique<PoolCalls>(loop, kThreads) : nullptr) {}

Task<Result<std::size_t>> FileIo::read_at(int fd, MutableBytes into, std::uint64_t offset) {
  if (!threads_) return loop_.read_at(fd, into, offset);
  return on_thread<Result<std::size_t>>(*threads_, [=] { return read_fully(fd, into, offset); });
}

Task<Result<std::size_t>> FileIo::write_at(int fd, ConstBytes from, std::uint64_t offset,
                                           bool durable) {
  if (!threads_) return loop_.write_at(fd, from, offset, durable);
  return on_thread<Result<std::size_t>>(*threads_,
                                        [=] { return write_fully(fd, from, offset, durable); });
}

Task<Status> FileIo::sync(int fd) {
  if (!threads_) return loop_.sync(fd);
  return on_thread<Status>(*threads_, [fd] { return sync_data(fd); });
}

Task<Status> FileIo::allocate(int fd, AllocateMode mode, std::uint64_t offset,
                              std::uint64_t length) {
  if (!threads_) return loop_.allocate(fd, mode, offset, length);
  return on_thread<Status>(*threads_, [=] { return allocate_range(fd, mode, offset, length); });
}

}  // namespace blockmig

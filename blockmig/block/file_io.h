// SPDX-License-Identifier: Apache-2.0
// FileIo: where the calls on one open file are made.
//
// As a rule by the loop's asynchronous I/O. A file whose filesystem can hang for reasons outside
// this machine (hung_filesystem.h) has threads of its own: what the loop has, and io_uring's
// workers are a few for all files of a ring, would be gone with the first file that hangs, and
// submitting may itself block where a filesystem does not know how to refuse (I10).
//
// Lifecycle: threads start when they are needed, at most kThreads, and end with it; no call is
// under way then. Thread rule: the loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/pool_calls.h"

namespace blockmig {

class FileIo final {
 public:
  /// Calls at once; what more there is waits for them. Enough to keep a server busy.
  static constexpr unsigned kThreads = 8;

  FileIo(IoLoop& loop, bool own_threads);

  /// As IoLoop's.
  Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset);
  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset, bool durable);
  Task<Status> sync(int fd);
  Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset, std::uint64_t length);

 private:
  IoLoop& loop_;
  std::unique_ptr<PoolCalls> threads_;  ///< null: the loop's I/O
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// UringPolls: the watches of a UringLoop, and the polls that they queue.
//
// Reading is a multishot poll, which reports edges until it is removed or the kernel ends it;
// writing is a one-shot poll for every wait. A poll that ended is queued again by the next wait,
// and then reports what has become ready since: so no edge is lost, and no ready descriptor keeps
// the loop busy.
//
// Except by the kernel. A poll with an event to report counts what wakes it meanwhile; from 128 on
// it only sets a mark, and a mark that is set while it has looked and gives its counts back is
// overlooked (io_uring/poll.c, io_poll_get_ownership_slowpath(); seen on Linux 6.18): data is
// there, and nobody is told before more arrives. It takes a reader that has taken the data of an
// event before the event was worked off. So who begins to wait while the kernel has work is in
// doubt, and looks again once that work is done.
//
// Thread rule: the loop's.
#pragma once

#include <coroutine>
#include <cstdint>
#include <memory>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/watch_table.h"

struct io_uring_sqe;

namespace blockmig {

class UringWatch;

class UringPolls final {
 public:
  /// What polls need of their loop.
  class Host {
   public:
    virtual io_uring_sqe* next_submission() = 0;
    /// Completions that the kernel holds back until it is entered.
    virtual bool kernel_has_work() const = 0;
    /// False on another thread than the ring's: its polls went with it.
    virtual bool may_submit() const = 0;
    /// Outside run(): what was queued takes effect now.
    virtual void flush() = 0;
    virtual void resume_later(std::coroutine_handle<> waiter) = 0;

   protected:
    ~Host() = default;
  };

  explicit UringPolls(Host& host) : host_(host) {}
  UringPolls(const UringPolls&) = delete;
  UringPolls& operator=(const UringPolls&) = delete;

  /// The loop outlives the watch.
  std::unique_ptr<FdWatch> watch(int fd);
  /// A completion tagged kWatchIn or kWatchOut.
  void complete(std::uint64_t user_data, int result, bool more);
  /// Somebody waits who is to look again behind the next entry into the kernel.
  bool in_doubt() const { return !doubted_.empty(); }
  void settle_doubts();

 private:
  friend class UringWatch;

  Host& host_;
  WatchTable<UringWatch> watches_;
  std::vector<std::uint64_t> doubted_;  ///< keys
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// PoolCalls: threads of their own for one kind of calls that may block, so that a kind that hangs
// takes nothing away from another (I10).
//
// Lifecycle: ends before its loop. Thread rule: the loop.
#pragma once

#include <utility>

#include "blockmig/io/blocking_calls.h"
#include "blockmig/io/blocking_pool.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class PoolCalls final : public BlockingCalls {
 public:
  PoolCalls(EventLoop& loop, unsigned max_threads) : loop_(loop), pool_(max_threads) {}

  void run_blocking(std::function<void()> work, std::function<void()> done) override {
    pool_.submit([this, work = std::move(work), done = std::move(done)]() mutable {
      work();
      work = nullptr;  // what it captured is gone before `done` runs
      loop_.post(std::move(done));
    });
  }
  /// As BlockingPool's.
  void stop() { pool_.stop(); }

 private:
  EventLoop& loop_;
  BlockingPool pool_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// BoundedCalls: one user's part of threads that many share, so that one whose calls hang leaves
// some to the others (I10). What is too many waits here, in order.
//
// Lifecycle: ends when nothing of it is under way. Thread rule: the loop.
#pragma once

#include <deque>
#include <functional>
#include <utility>

#include "blockmig/io/blocking_calls.h"

namespace blockmig {

class BoundedCalls final : public BlockingCalls {
 public:
  /// Under way at once.
  static constexpr unsigned kMost = 8;

  explicit BoundedCalls(BlockingCalls& calls) : calls_(calls) {}

  void run_blocking(std::function<void()> work, std::function<void()> done) override {
    waiting_.emplace_back(std::move(work), std::move(done));
    start_waiting();
  }

 private:
  using Function = std::function<void()>;

  void start_waiting() {
    while (running_ < kMost && !waiting_.empty()) {
      auto [work, done] = std::move(waiting_.front());
      waiting_.pop_front();
      ++running_;
      calls_.run_blocking(std::move(work), [this, done = std::move(done)] {
        --running_;
        start_waiting();
        done();  // may end this
      });
    }
  }

  BlockingCalls& calls_;
  unsigned running_ = 0;
  std::deque<std::pair<Function, Function>> waiting_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// BlockingPool: threads for calls that may block.
//
// Lifecycle: threads start when work finds none idle, up to the limit, and stay. stop() lets what
// has started finish, drops what has not, and joins; it is idempotent and part of destruction. The
// queue has no limit of its own: callers bound what they submit. Thread rule: submit() from any
// thread until stop(); stop() from one.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace blockmig {

class BlockingPool final {
 public:
  /// `max_threads` of 0 counts as 1.
  explicit BlockingPool(unsigned max_threads);
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  /// Runs `job` on one of the threads, in the order submitted. Dropped after stop().
  void submit(std::function<void()> job);
  void stop();

 private:
  void work();

  const unsigned max_threads_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> queue_;
  std::vector<std::thread> threads_;
  unsigned idle_ = 0;
  bool stopping_ = false;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/blocking_pool.h"

#include <algorithm>
#include <utility>

namespace blockmig {

BlockingPool::BlockingPool(unsigned max_threads) : max_threads_(std::max(max_threads, 1u)) {}

BlockingPool::~BlockingPool() { stop(); }

void BlockingPool::submit(std::function<void()> job) {
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  queue_.push_back(std::move(job));
  // A thread that was woken but has not taken its job yet still counts as idle: compare with the
  // queue.
  if (queue_.size() > idle_ && threads_.size() < max_threads_) {
    threads_.emplace_back([this] { work(); });
  } else {
    wake_.notify_one();
  }
}

void BlockingPool::stop() {
  std::deque<std::function<void()>> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped.swap(queue_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

void BlockingPool::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    while (queue_.empty() && !stopping_) wake_.wait(lock);
    --idle_;
    if (stopping_) return;
    auto job = std::move(queue_.front());
    queue_.pop_front();
    lock.unlock();
    job();
    job = nullptr;  // what it captured goes before the lock is taken
    lock.lock();
  }
}

}  // namespace blockmig

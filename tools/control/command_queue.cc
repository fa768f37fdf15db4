// SPDX-License-Identifier: Apache-2.0
#include "tools/control/command_queue.h"

#include <system_error>
#include <utility>

namespace blockmig {

bool CommandQueue::have_thread() {
  if (idle_ >= waiting_.size() || threads_.size() >= limits_.threads) return true;
  try {
    threads_.emplace_back([this] { work(); });
  } catch (const std::system_error&) {
    // As many as the system allows; those that are there come to it.
  }
  return !threads_.empty();
}

void CommandQueue::add(Job job) {
  Turn turn = Turn::kStopping;
  {
    const std::lock_guard lock(mutex_);
    if (!stopping_) turn = Turn::kTooLate;
    if (!stopping_ && waiting_.size() < limits_.waiting) {
      waiting_.push_back({job, Clock::now()});
      if (have_thread()) {
        changed_.notify_one();
        return;
      }
      waiting_.pop_back();
    }
  }
  job(turn);
}

void CommandQueue::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    ++idle_;
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    --idle_;
    if (waiting_.empty()) return;
    const Waiting next = std::move(waiting_.front());
    waiting_.pop_front();
    const bool late = Clock::now() - next.since > limits_.patience;
    lock.unlock();
    next.job(late ? Turn::kTooLate : Turn::kBegin);
    lock.lock();
  }
}

void CommandQueue::stop() {
  std::deque<Waiting> not_begun;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    not_begun.swap(waiting_);
  }
  changed_.notify_all();
  for (const Waiting& each : not_begun) each.job(Turn::kStopping);
  not_begun.clear();  // and what they hold
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace blockmig

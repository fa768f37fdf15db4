// SPDX-License-Identifier: Apache-2.0
// HandleQueue: the coroutines that a loop will resume, first in, first out. A ring that grows by
// doubling and never shrinks; push and pop are a few instructions. Thread rule: one loop.
#pragma once

#include <coroutine>
#include <cstddef>
#include <vector>

namespace blockmig {

class HandleQueue final {
 public:
  bool empty() const { return head_ == tail_; }
  std::size_t size() const { return tail_ - head_; }

  void push(std::coroutine_handle<> handle) {
    if (size() == ring_.size()) grow();
    ring_[tail_++ & (ring_.size() - 1)] = handle;
  }
  /// The queue is not empty.
  std::coroutine_handle<> pop() { return ring_[head_++ & (ring_.size() - 1)]; }

 private:
  void grow() {
    std::vector<std::coroutine_handle<>> larger(ring_.size() * 2);
    const std::size_t count = size();
    for (std::size_t i = 0; i < count; ++i) larger[i] = pop();
    ring_.swap(larger);
    head_ = 0;
    tail_ = count;
  }

  std::vector<std::coroutine_handle<>> ring_ = std::vector<std::coroutine_handle<>>(256);
  std::size_t head_ =
      0;  ///< both only grow; a place is its number modulo the ring's size (a power of 2)
  std::size_t tail_ = 0;
};

}  // namespace blockmig

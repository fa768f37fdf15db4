// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/timer_heap.h"

#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {

void TimerHeap::arm(Timer& timer, TimePoint when) {
  if (timer.armed()) disarm(timer);
  timer.when_ = when;
  timer.order_ = armed_count_++;
  timer.heap_index_ = heap_.size();
  heap_.push_back(&timer);
  sift_up(timer.heap_index_);
}

void TimerHeap::disarm(Timer& timer) {
  const std::size_t index = timer.heap_index_;
  BM_CHECK(index < heap_.size() && heap_[index] == &timer);
  const std::size_t last = heap_.size() - 1;
  if (index != last) swap(index, last);
  heap_.pop_back();
  timer.heap_index_ = Timer::kNotArmed;
  if (index < heap_.size()) {
    sift_up(index);
    sift_down(index);
  }
}

std::optional<TimePoint> TimerHeap::earliest() const {
  if (heap_.empty()) return std::nullopt;
  return heap_.front()->when_;
}

bool TimerHeap::fire_due(TimePoint now) {
  if (heap_.empty() || heap_.front()->when_ > now) return false;
  Timer& timer = *heap_.front();
  disarm(timer);
  // The callback may destroy the timer and so itself: it runs from here, not from the timer.
  auto fire = std::move(timer.fire_);
  bool destroyed = false;
  timer.destroyed_ = &destroyed;
  fire();
  if (!destroyed) {
    timer.destroyed_ = nullptr;
    timer.fire_ = std::move(fire);
  }
  return true;
}

void TimerHeap::swap(std::size_t a, std::size_t b) {
  std::swap(heap_[a], heap_[b]);
  heap_[a]->heap_index_ = a;
  heap_[b]->heap_index_ = b;
}

void TimerHeap::sift_up(std::size_t index) {
  while (index > 0) {
    const std::size_t parent = (index - 1) / 2;
    if (!before(index, parent)) return;
    swap(index, parent);
    index = parent;
  }
}

void TimerHeap::sift_down(std::size_t index) {
  for (;;) {
    std::size_t smallest = index;
    for (std::size_t child = 2 * index + 1; child <= 2 * index + 2; ++child) {
      if (child < heap_.size() && before(child, smallest)) smallest = child;
    }
    if (smallest == index) return;
    swap(index, smallest);
    index = smallest;
  }
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// TimerHeap: the armed timers of one loop, earliest first. Arm, move and disarm in O(log n); a
// timer knows its place, so disarming needs no search. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class TimerHeap final {
 public:
  void arm(Timer& timer, TimePoint when);
  void disarm(Timer& timer);
  std::optional<TimePoint> earliest() const;
  bool empty() const { return heap_.empty(); }
  /// Disarms and fires the earliest timer if it is due at `now`; false if none is.
  bool fire_due(TimePoint now);

 private:
  bool before(std::size_t a, std::size_t b) const {
    if (heap_[a]->when_ != heap_[b]->when_) return heap_[a]->when_ < heap_[b]->when_;
    return heap_[a]->order_ < heap_[b]->order_;
  }
  void swap(std::size_t a, std::size_t b);
  void sift_up(std::size_t index);
  void sift_down(std::size_t index);

  std::vector<Timer*> heap_;
  std::uint64_t armed_count_ = 0;  ///< orders timers of one point in time
};

}  // namespace blockmig

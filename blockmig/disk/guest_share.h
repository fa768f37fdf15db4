// SPDX-License-Identifier: Apache-2.0
// GuestShare: which part of the loop's time the guest's connections get while a copier works.
//
// A loop that serves whoever is ready serves a fast guest nearly all the time: each of its batches
// is answered at once, and the next one is there before the copier has had its turn. So the guest
// pays for the time it uses: after t of it, the next batch is taken when t / part has passed since
// this one began. A guest that asks for less than its part never waits; one wait is bounded, so
// that a long batch does not add a long wait to its own time. A limit that is not renewed lapses: a
// copier that is paused, or waits for its target, takes nothing from the guest. Pure: no clock of
// its own. Thread rule: the disk's loop.
#pragma once

#include <algorithm>
#include <chrono>

#include "blockmig/base/check.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class GuestShare final {
 public:
  /// Behind one batch at most.
  static constexpr Duration kMostRest = std::chrono::milliseconds(2);
  static constexpr Duration kLapse = std::chrono::milliseconds(50);

  /// For the next kLapse; `part` of the time, in (0, 1].
  void limit(double part, TimePoint now) {
    BM_CHECK(part > 0 && part <= 1);
    part_ = part;
    lapses_at_ = now + kLapse;
  }
  void lift() { part_ = 1; }
  bool limited() const { return part_ < 1; }
  /// 1: all that it wants.
  double part(TimePoint now) const { return now < lapses_at_ ? part_ : 1; }
  /// It has used the loop; returns from when on it may again.
  TimePoint used(TimePoint begun, TimePoint ended) {
    if (begun >= lapses_at_) lift();
    if (!limited()) return ended;
    const std::chrono::duration<double, Duration::period> took(ended - begun);
    const Duration cost = std::chrono::duration_cast<Duration>(took / part_);
    free_at_ = std::min(std::max(free_at_, begun) + cost, ended + kMostRest);
    return free_at_;
  }

 private:
  double part_ = 1;
  TimePoint lapses_at_{};
  TimePoint free_at_{};  ///< when what it has used is paid for
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// MirrorFallback: when a mirror stops making the guest wait for a target that cannot follow. Pure:
// no I/O, no clock of its own.
//
//   mirroring ──▶ tracking       more than half of the latest writes missed their deadline: waiting
//       ▲            │           costs the guest and buys nothing
//       └────────────┘           after a hold, which doubles with every relapse: the target
//                                may have recovered, and must not be tried at every write
//
// A long run of writes in time makes the next hold short again.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class MirrorFallback final {
 public:
  static constexpr int kShortestHoldDeadlines = 10;
  static constexpr int kLongestHoldDeadlines = 200;
  /// Writes that are looked at before anything is concluded, and at most.
  static constexpr unsigned kFewestWrites = 16;
  static constexpr unsigned kMostWrites = 64;
  static constexpr unsigned kWritesOfHealth = 256;

  explicit MirrorFallback(Duration deadline)
      : shortest_hold_(kShortestHoldDeadlines * deadline),
        longest_hold_(kLongestHoldDeadlines * deadline),
        next_hold_(shortest_hold_) {}

  /// Writes are tracked, not mirrored.
  bool tracking(TimePoint now) const { return now < tracking_until_; }
  /// How often it began to track.
  std::uint64_t times() const { return times_; }

  /// A write that should be mirrored was (or was not) by its deadline.
  void ended(bool in_time, TimePoint now) {
    if (tracking(now)) return;  // it began before
    history_ = history_ << 1 | (in_time ? 0u : 1u);
    writes_ = std::min(writes_ + 1, kMostWrites);
    in_time_in_a_row_ = in_time ? in_time_in_a_row_ + 1 : 0;
    if (in_time_in_a_row_ >= kWritesOfHealth) next_hold_ = shortest_hold_;
    const auto missed = static_cast<unsigned>(std::popcount(history_));
    if (writes_ < kFewestWrites || missed * 2 <= writes_) return;
    ++times_;
    tracking_until_ = now + next_hold_;
    next_hold_ = std::min(2 * next_hold_, longest_hold_);
    history_ = 0;
    writes_ = in_time_in_a_row_ = 0;
  }

 private:
  Duration shortest_hold_;
  Duration longest_hold_;
  Duration next_hold_;
  TimePoint tracking_until_{};
  std::uint64_t history_ = 0;  ///< a bit per write, the latest lowest: 1 = missed
  unsigned writes_ = 0;        ///< of them, since the last change
  unsigned in_time_in_a_row_ = 0;
  std::uint64_t times_ = 0;
};

}  // namespace blockmig

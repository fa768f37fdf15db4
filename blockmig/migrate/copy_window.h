// SPDX-License-Identifier: Apache-2.0
// CopyWindow: how many bytes the copier keeps in flight. Pure: no I/O, no clock of its own.
//
// Additive increase, multiplicative decrease on the target's answer time, as congestion control
// does: a slow target that queues everything must not queue the guest's mirrored writes behind 16
// MiB of bulk. Halves at most once per answered window; grows by one step per answered window.
#pragma once

#include <algorithm>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class CopyWindow final {
 public:
  struct Limits {
    std::uint64_t min_bytes = 64 * 1024;
    std::uint64_t max_bytes = 16u << 20;
    std::uint64_t step_bytes = 512 * 1024;
    /// Answers slower than this shrink the window; never below twice the fastest answer seen, which
    /// a smaller window could not improve (a long round trip).
    Duration goal = std::chrono::seconds(1);
  };

  explicit CopyWindow(const Limits& limits)
      : limits_(limits), window_bytes_(limits.max_bytes / 4 + limits.min_bytes) {
    clamp();
  }

  std::uint64_t bytes() const { return window_bytes_; }
  void set_goal(Duration goal) { limits_.goal = goal; }
  /// Not more than this from now on, until it grows again: what the target takes within the goal.
  void cut_to(std::uint64_t bytes) {
    if (window_bytes_ > bytes) window_bytes_ = bytes;
    clamp();
  }
  void answered(std::uint64_t bytes, Duration took) {
    since_change_bytes_ += bytes;
    fastest_ = std::min(fastest_, took);
    if (took > std::max(limits_.goal, 2 * fastest_)) slow_ = true;
    if (since_change_bytes_ < window_bytes_) return;
    since_change_bytes_ = 0;
    // A small window grows in small steps: one of half a MiB is an overshoot at 8 MB/s.
    const std::uint64_t step =
        std::min(limits_.step_bytes, std::max(window_bytes_ / 4, limits_.min_bytes / 4));
    window_bytes_ = slow_ ? window_bytes_ / 2 : window_bytes_ + step;
    slow_ = false;
    clamp();
  }

 private:
  void clamp() {
    if (window_bytes_ > limits_.max_bytes) window_bytes_ = limits_.max_bytes;
    if (window_bytes_ < limits_.min_bytes) window_bytes_ = limits_.min_bytes;
  }

  Limits limits_;
  std::uint64_t window_bytes_;
  std::uint64_t since_change_bytes_ = 0;
  Duration fastest_ = Duration::max() / 4;
  bool slow_ = false;
};

}  // namespace blockmig

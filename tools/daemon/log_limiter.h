// SPDX-License-Identifier: Apache-2.0
// LogLimiter: how many lines a kind of event may write. A burst goes through, then so many a
// second; what is held back is counted, for one line that says so. Pure. Thread rule: one thread.
#pragma once

#include <algorithm>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class LogLimiter final {
 public:
  LogLimiter(std::uint32_t burst, std::uint32_t per_second)
      : interval_(std::chrono::nanoseconds(std::chrono::seconds(1)) / per_second),
        burst_(interval_ * burst) {}

  /// True: write the line. False: it has been counted as suppressed.
  bool admits(TimePoint now) {
    // As a leaky bucket: the time by which all admitted lines are paid for.
    const TimePoint paid = std::max(paid_until_, now);
    if (paid + interval_ - now > burst_) {
      ++suppressed_;
      return false;
    }
    paid_until_ = paid + interval_;
    return true;
  }
  /// How many lines were held back, once there is room to say so; 0 otherwise. Costs a line.
  std::uint64_t take_suppressed(TimePoint now) {
    if (suppressed_ == 0) return 0;
    const std::uint64_t held_back = suppressed_;
    if (!admits(now)) {
      suppressed_ = held_back;
      return 0;
    }
    suppressed_ = 0;
    return held_back;
  }

 private:
  Duration interval_;
  Duration burst_;
  TimePoint paid_until_{};
  std::uint64_t suppressed_ = 0;
};

}  // namespace blockmig

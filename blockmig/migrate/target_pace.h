// SPDX-License-Identifier: Apache-2.0
// TargetPace: how fast a target has answered lately. Pure: no clock of its own.
//
// Its rate is of the time in which it had something to do, so that a target that is asked for
// little does not look slow; the last half second of work weighs most. Its quickest answer is that
// to a small write, ever: what is under way at the same time only makes answers slower, so a
// quickest one of late would grow with the window that is made from it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class TargetPace final {
 public:
  /// A write of `bytes` was answered after `took`; the target had been at work for `busy` since the
  /// last answer, or since it began.
  void answered(std::uint64_t bytes, Duration took, Duration busy) {
    const double seconds = std::chrono::duration<double>(busy).count();
    const double kept = std::exp(-seconds / kMemorySeconds);
    bytes_ = bytes_ * kept + static_cast<double>(bytes);
    seconds_ = seconds_ * kept + seconds;
    seen_ = std::min(seen_ + bytes, kEnoughBytes);
    if (bytes <= kSmallBytes) quickest_ = std::min(quickest_, took);
  }
  /// Bytes per second; 0: too little was seen to say.
  std::uint64_t bytes_per_second() const {
    if (seen_ < kEnoughBytes) return 0;
    return static_cast<std::uint64_t>(bytes_ / std::max(seconds_, kInstant)) + 1;
  }
  /// Zero before the first answer to a small write.
  Duration quickest() const { return quickest_ == Duration::max() ? Duration::zero() : quickest_; }

 private:
  static constexpr double kMemorySeconds = 0.5;
  static constexpr double kInstant = 1e-6;
  static constexpr std::uint64_t kEnoughBytes = 256 * 1024;
  static constexpr std::uint64_t kSmallBytes = 64 * 1024;

  double bytes_ = 0;
  double seconds_ = 0;
  std::uint64_t seen_ = 0;
  Duration quickest_ = Duration::max();
};

}  // namespace blockmig

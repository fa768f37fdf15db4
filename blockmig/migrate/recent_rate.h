// SPDX-License-Identifier: Apache-2.0
// RecentRate: bytes per second of things that happen now and then; what happened half a second ago
// counts little more than a third. A burst after a silence is averaged over that half second. Pure.
#pragma once

#include <cmath>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class RecentRate final {
 public:
  void add(std::uint64_t bytes, TimePoint now) {
    bytes_ = bytes_ * kept(now) + static_cast<double>(bytes);
    at_ = now;
  }
  std::uint64_t bytes_per_second(TimePoint now) const {
    return static_cast<std::uint64_t>(bytes_ * kept(now) / kMemorySeconds);
  }

 private:
  static constexpr double kMemorySeconds = 0.5;
  double kept(TimePoint now) const {
    return std::exp(-std::chrono::duration<double>(now - at_).count() / kMemorySeconds);
  }

  double bytes_ = 0;
  TimePoint at_{};
};

}  // namespace blockmig

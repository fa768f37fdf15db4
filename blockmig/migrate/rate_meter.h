// SPDX-License-Identifier: Apache-2.0
// RateMeter: bytes per second over about the last second, from a counter that grows: where it
// falls, it is another one, and the measuring begins anew. Pure.
#pragma once

#include <cstdint>
#include <deque>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class RateMeter final {
 public:
  void sample(TimePoint now, std::uint64_t total) {
    if (!samples_.empty() && total < samples_.back().total) samples_.clear();
    samples_.push_back({now, total});
    while (samples_.size() > 2 && now - samples_[1].at >= kWindow) samples_.pop_front();
  }
  std::uint64_t bytes_per_second() const {
    if (samples_.size() < 2) return 0;
    const double seconds =
        std::chrono::duration<double>(samples_.back().at - samples_.front().at).count();
    if (seconds <= 0) return 0;
    return static_cast<std::uint64_t>(
        static_cast<double>(samples_.back().total - samples_.front().total) / seconds);
  }

 private:
  static constexpr Duration kWindow = std::chrono::seconds(1);
  struct Sample {
    TimePoint at;
    std::uint64_t total;
  };
  std::deque<Sample> samples_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// HoleStep: how much of a hole one request to zero may cover. Pure: no I/O, no clock of its own.
//
// Doubles while the target answers at once, as one that only notes it does; halves where it takes
// its time, as one that writes zeros.
#pragma once

#include <algorithm>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class HoleStep final {
 public:
  static constexpr std::uint64_t kMinBytes = 4u << 20;
  static constexpr std::uint64_t kMaxBytes = 256u << 20;
  static constexpr Duration kQuick = std::chrono::milliseconds(20);
  static constexpr Duration kSlow = std::chrono::milliseconds(100);

  std::uint64_t bytes() const { return bytes_; }
  /// `goal`: answers slower than this are too slow for the guest's writes.
  void answered(Duration took, Duration goal) {
    if (took > std::min(kSlow, goal)) {
      bytes_ = std::max(bytes_ / 2, kMinBytes);
    } else if (took <= std::min(kQuick, goal / 2)) {
      bytes_ = std::min(bytes_ * 2, kMaxBytes);
    }
  }

 private:
  std::uint64_t bytes_ = kMinBytes;
};

}  // namespace blockmig

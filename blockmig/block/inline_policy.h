// SPDX-License-Identifier: Apache-2.0
// InlinePolicy: may a call that can block be made on the loop's own thread?
//
// A write to the page cache takes a microsecond, until the kernel throttles the writer, waits for
// its journal, or for a page under write-back: then it takes milliseconds and stops every client.
// So each call is measured; one slow call sends the following ones through asynchronous I/O for a
// while, first 10 ms, doubling to 1 s while slow calls go on, and from the start again after a
// second without one. Pure: a function of the times it is told. Times decide only speed, never
// correctness.
#pragma once

#include <cstdint>

#include "blockmig/base/bytes.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class InlinePolicy final {
 public:
  static constexpr Duration kFirstQuiet = std::chrono::milliseconds(10);
  static constexpr Duration kLongestQuiet = std::chrono::seconds(1);
  static constexpr Duration kForgetAfter = std::chrono::seconds(1);
  /// A call of up to one MiB that takes longer is slow; larger ones in proportion.
  static constexpr Duration kSlowPerMiB = std::chrono::milliseconds(1);
  /// Larger requests are never made inline: copying them alone would hold up others.
  static constexpr std::uint64_t kMaxInlineBytes = kMiB;

  bool allows(TimePoint now, std::uint64_t bytes) const {
    return bytes <= kMaxInlineBytes && now >= quiet_until_;
  }
  /// An inline call of `bytes` ran from `start` to `end`.
  void observe(TimePoint start, TimePoint end, std::uint64_t bytes);
  TimePoint quiet_until() const { return quiet_until_; }

 private:
  TimePoint quiet_until_{};
  Duration quiet_{};
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// LatencyGovernor: how fast and how deep the copier may go so that the guest's p99 stays below
// --max-guest-latency. Pure: no I/O, no clock.
//
// Each window of the guest's requests moves it by one step, as congestion control does:
//
//   p99 above the limit          half the rate, half the requests in flight
//   p99 below 70 % of the limit  a step more of both, up to no limit at all
//   in between, or few requests  stays (hysteresis); without any, a step more
//
// It never goes below kLeastRate and one request: a move must end some day. Where the limit is
// exceeded even so, helpless() says it: the copier is not what makes the guest slow.
#pragma once

#include <algorithm>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class LatencyGovernor final {
 public:
  static constexpr std::uint64_t kLeastRate = 1u << 20;  ///< bytes per second
  /// A p99 of fewer requests is the longest of them.
  static constexpr std::uint64_t kEnoughRequests = 100;
  static constexpr unsigned kWindowsOfHope = 10;

  /// What the guest saw in one window, and what the copier did in it, in bytes per second.
  struct Window {
    std::uint64_t requests = 0;
    Duration p99{};
    std::uint64_t copied_rate = 0;
  };
  struct Pace {
    std::uint64_t bytes_per_second = 0;  ///< 0: no limit
    std::uint32_t depth = 1;
    friend bool operator==(const Pace&, const Pace&) = default;
  };

  /// `limit` > 0. Begins with a quarter of `max_depth`: a limit is not found by exceeding it.
  LatencyGovernor(Duration limit, std::uint32_t max_depth)
      : limit_(limit), max_depth_(max_depth), pace_{0, std::max(max_depth / 4, 1u)} {}

  const Pace& pace() const { return pace_; }
  /// The least pace, and the limit exceeded, for kWindowsOfHope windows.
  bool helpless() const { return hopeless_windows_ >= kWindowsOfHope; }

  void observe(const Window& window) {
    fastest_ = std::max(fastest_, window.copied_rate);
    if (window.requests > 0 && window.p99 > limit_) {
      slower(window.copied_rate);
    } else if (window.requests == 0 || window.p99 < limit_ * 7 / 10) {
      hopeless_windows_ = 0;
      faster(window.copied_rate);
    } else {
      hopeless_windows_ = 0;
    }
  }

 private:
  void slower(std::uint64_t copied_rate) {
    if (pace_.bytes_per_second == kLeastRate && pace_.depth == 1) {
      hopeless_windows_ = std::min(hopeless_windows_ + 1, kWindowsOfHope);
      return;
    }
    std::uint64_t rate = pace_.bytes_per_second;
    if (rate == 0 || rate > copied_rate) rate = std::max(copied_rate, kLeastRate);
    pace_.bytes_per_second = std::max(rate / 2, kLeastRate);
    pace_.depth = std::max(pace_.depth / 2, 1u);
  }

  void faster(std::uint64_t copied_rate) {
    pace_.depth = std::min(pace_.depth + 1, max_depth_);
    if (pace_.bytes_per_second == 0) return;
    // One that is not used up says nothing about twice as much.
    if (pace_.bytes_per_second > 2 * std::max(copied_rate, kLeastRate)) {
      if (pace_.bytes_per_second > 2 * fastest_) pace_.bytes_per_second = 0;
      return;
    }
    pace_.bytes_per_second += std::max(fastest_ / 16, kLeastRate / 2);
  }

  Duration limit_;
  std::uint32_t max_depth_;
  Pace pace_;
  std::uint64_t fastest_ = 0;  ///< that the copier has ever been
  unsigned hopeless_windows_ = 0;
};

}  // namespace blockmig

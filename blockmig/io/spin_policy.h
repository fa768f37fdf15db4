// SPDX-License-Identifier: Apache-2.0
// SpinPolicy: whether a loop with nothing to do should poll for a while before it sleeps.
//
// A wake-up costs about 20 µs; a request that follows another within the spin is served without one
// (which doubles the rate of one request at a time). A spin that finds nothing only burns CPU.
// So: spin while it pays; after kPatience fruitless spins in a row sleep without spinning 2, 4, 8 …
// kMaxSkips times between two tries, until one pays again. A loop that is woken now and then thus
// spends less than a thousandth of its wake-ups spinning.
//
// A pure function of what it was told: no clock, no I/O.
#pragma once

#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class SpinPolicy final {
 public:
  static constexpr std::uint32_t kPatience = 4;
  static constexpr std::uint32_t kMaxSkips = 1024;

  /// `spin` is how long one spin may take; 0 = never spin.
  explicit SpinPolicy(Duration spin) : spin_(spin) {}

  /// Asked before every sleep: how long to spin first; 0 = sleep at once.
  Duration before_sleep();
  /// Told after every spin: whether there was something to do before it ended.
  void spun(bool paid);

 private:
  Duration spin_;
  std::uint32_t fruitless_ = 0;  ///< spins in a row
  std::uint32_t skips_ = 0;      ///< sleeps between two tries; 0 while spinning pays
  std::uint32_t skips_left_ = 0;
};

}  // namespace blockmig

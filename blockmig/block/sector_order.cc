// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/sector_order.h"

#include <algorithm>
#include <chrono>

#include "blockmig/io/cancel.h"

namespace blockmig {
namespace {

// How long to leave other threads' calls alone before looking again whether they have ended; most
// take less, one that the kernel holds up may take any time.
constexpr Duration kFirstPause = std::chrono::microseconds(20);
constexpr Duration kLongestPause = std::chrono::milliseconds(1);

}  // namespace

/// Ends: new calls in the way are refused, and those inside wait for nothing but the kernel.
Task<SectorOrder::Claim> SectorOrder::claim(ByteRange range, Access access) {
  RangeLock::Hold hold = co_await requests_.lock(range);
  RangeStripes::Async stripes = stripes_.announce(range, access);
  Duration pause = kFirstPause;
  while (!stripes.clear()) {
    co_await sleep_for(loop_, pause);
    pause = std::min(pause * 2, kLongestPause);
  }
  Claim claimed(std::move(hold), std::move(stripes));
  co_return std::move(claimed);
}

SectorOrder::Call SectorOrder::try_on_loop(ByteRange range, Access access) {
  if (requests_.touches(range)) return Call();
  if (!shared_.load(std::memory_order_relaxed)) return Call::alone();
  return stripes_.try_call(range, access, RangeStripes::Against::kCalls);
}

SectorOrder::Call SectorOrder::try_anywhere(ByteRange range, Access access) {
  if (!shared_.load(std::memory_order_relaxed)) return try_on_loop(range, access);
  return stripes_.try_call(range, access, RangeStripes::Against::kAll);
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// BackOff: how long to wait before the next try of something that fails: twice as long each time,
// up to a limit. Pure; whoever tries counts the failures, and waits.
#pragma once

#include <algorithm>
#include <chrono>

namespace blockmig {

struct BackOff {
  using Duration = std::chrono::nanoseconds;

  Duration first;  ///< after the first failure; above zero
  Duration longest;

  /// `failures`: those before the last one, so 0 gives `first`. Any number is fine.
  constexpr Duration after(unsigned failures) const {
    Duration wait = std::min(first, longest);
    for (; failures > 0 && wait < longest; --failures) wait = std::min(2 * wait, longest);
    return wait;
  }
};

/// For a store or a pass that failed, and may work again at once.
inline constexpr BackOff kStoreBackOff{std::chrono::milliseconds(20), std::chrono::seconds(1)};

}  // namespace blockmig

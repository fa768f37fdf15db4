// SPDX-License-Identifier: Apache-2.0
// How many clients a daemon takes so that they never have the last descriptors: a journal that
// cannot open its next file is lost for good, and with it the writes of all guests. Pure.
#pragma once

#include <algorithm>
#include <cstdint>

namespace blockmig {

/// Of journal, stores, control and the loops; more with many disks.
inline constexpr std::uint64_t kOwnDescriptors = 256;

/// Of `wanted` connections those that leave kOwnDescriptors of the `limit` that the process has, or
/// where it is very low three quarters of that.
inline std::uint32_t connections_within(std::uint64_t limit, std::uint32_t wanted) {
  const std::uint64_t beside = limit - std::min(limit, kOwnDescriptors);
  const std::uint64_t room = std::max({beside, limit / 4, std::uint64_t{1}});
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(wanted, room));
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// What a completion of UringLoop's is about: the top byte of its user_data. The rest is a pointer
// or a watch's key.
#pragma once

#include <cstdint>

namespace blockmig {

enum class UringTag : std::uint64_t {
  kFile = 0,
  kWatchIn = 1,
  kWatchOut = 2,
  kWake = 3,
  kIgnored = 4
};

inline constexpr int kUringTagShift = 56;

constexpr std::uint64_t tagged(UringTag tag, std::uint64_t value) {
  return static_cast<std::uint64_t>(tag) << kUringTagShift | value;
}
constexpr UringTag tag_of(std::uint64_t user_data) {
  return static_cast<UringTag>(user_data >> kUringTagShift);
}
constexpr std::uint64_t tagged_value(std::uint64_t user_data) {
  return user_data & ((1ULL << kUringTagShift) - 1);
}

}  // namespace blockmig

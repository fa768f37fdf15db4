// SPDX-License-Identifier: Apache-2.0
// Byte quantities and alignment. All sizes and offsets in this project are bytes in a uint64_t.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "blockmig/base/check.h"

namespace blockmig {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;
inline constexpr std::uint64_t kTiB = 1024 * kGiB;

/// The unit in which reads are linearizable (I2).
inline constexpr std::uint64_t kSectorBytes = 512;

using ConstBytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t power_of_two) {
  return value & ~(power_of_two - 1);
}
/// The caller guarantees that `value + power_of_two` does not wrap.
constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t power_of_two) {
  return align_down(value + power_of_two - 1, power_of_two);
}
constexpr std::uint64_t div_up(std::uint64_t value, std::uint64_t divisor) {
  return value / divisor + (value % divisor != 0 ? 1 : 0);
}

/// A half-open byte range [offset, offset + length).
struct ByteRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;

  constexpr std::uint64_t end() const { return offset + length; }
  constexpr bool empty() const { return length == 0; }
  constexpr bool overlaps(const ByteRange& other) const {
    return offset < other.end() && other.offset < end();
  }
  constexpr bool contains(const ByteRange& other) const {
    return offset <= other.offset && other.end() <= end();
  }
  friend constexpr bool operator==(const ByteRange&, const ByteRange&) = default;
};

/// True if [offset, offset + length) lies in [0, size) and does not wrap.
constexpr bool fits(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

/// True if every byte is zero. Checked word by word; a MiB of zeros takes tens of microseconds.
bool is_all_zero(ConstBytes bytes);

}  // namespace blockmig

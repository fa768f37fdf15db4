// SPDX-License-Identifier: Apache-2.0
// The injected source of randomness: a seeded generator, so that a simulator run is a function of
// its seed. Not for secrets. Not thread-safe; each owner has its own.
#pragma once

#include <cstdint>

#include "blockmig/base/check.h"

namespace blockmig {

class Random final {
 public:
  explicit Random(std::uint64_t seed) : state_(seed + 0x9e3779b97f4a7c15ULL) {}

  /// SplitMix64 (Steele, Lea, Flood 2014): every seed gives a full-period stream.
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }
  /// Uniform in [0, bound); bound > 0. Multiply-shift: the bias is below bound / 2^64.
  std::uint64_t below(std::uint64_t bound) {
    BM_CHECK(bound > 0);
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<Wide>(next()) * bound) >> 64);
  }
  /// Uniform in [low, high], both included.
  std::uint64_t between(std::uint64_t low, std::uint64_t high) {
    return low + below(high - low + 1);
  }
  /// True with probability numerator / denominator.
  bool chance(std::uint64_t numerator, std::uint64_t denominator) {
    return below(denominator) < numerator;
  }

 private:
  std::uint64_t state_;
};

}  // namespace blockmig

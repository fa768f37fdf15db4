// SPDX-License-Identifier: Apache-2.0
// LatencyHistogram: counts durations in log-linear buckets (16 per power of two, so within 6.25 %),
// from 1 ns to 17 minutes. Recording is a few instructions.
//
// Thread rule: one thread records, any thread reads or copies; a copy is a snapshot, whose count()
// is that of its buckets. merge() combines what several threads recorded, each in its own.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "blockmig/base/counter.h"

namespace blockmig {

class LatencyHistogram final {
 public:
  void record(std::uint64_t nanoseconds) {
    counts_[bucket_of(nanoseconds)].add();
    sum_.add(nanoseconds);
    max_.raise_to(nanoseconds);
  }
  void merge(const LatencyHistogram& other);
  /// What was recorded after `earlier`, a copy of this histogram, was made. max_ns() is that of
  /// all.
  LatencyHistogram since(const LatencyHistogram& earlier) const;
  void reset() { *this = LatencyHistogram(); }

  /// Adds the buckets up: not for the path of a request.
  std::uint64_t count() const;
  std::uint64_t max_ns() const { return max_.value(); }
  std::uint64_t sum_ns() const { return sum_.value(); }
  /// Upper bound of the bucket that holds the `fraction` (0…1) quantile; 0 if nothing was recorded.
  std::uint64_t quantile_ns(double fraction) const;
  /// How many took `nanoseconds` or less, to the resolution of the buckets: exact where
  /// `nanoseconds` + 1 is a bucket's edge (every power of two is), otherwise without the bucket
  /// that `nanoseconds` falls into.
  std::uint64_t count_up_to(std::uint64_t nanoseconds) const;

 private:
  static constexpr std::size_t kSubBits = 4;
  static constexpr std::size_t kSub = 1u << kSubBits;
  static constexpr std::size_t kBuckets = (40 - kSubBits + 1) * kSub;

  static std::size_t bucket_of(std::uint64_t value) {
    if (value < kSub) return static_cast<std::size_t>(value);
    const auto exponent = static_cast<std::size_t>(std::bit_width(value)) - 1 - kSubBits;
    const std::size_t index =
        (exponent + 1) * kSub + static_cast<std::size_t>((value >> exponent) - kSub);
    return index < kBuckets ? index : kBuckets - 1;
  }
  static std::uint64_t upper_bound(std::size_t bucket);

  std::array<Counter, kBuckets> counts_{};
  Counter sum_;
  Counter max_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// LatencyHistogram: counts durations in log-linear buckets (16 per power of two, so within 6.25 %),
// from 1 ns to 17 minutes. Recording is a few instructions. Thread rule: one thread; merge() to
// combine.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace blockmig {

class LatencyHistogram final {
 public:
  void record(std::uint64_t nanoseconds) {
    ++counts_[bucket_of(nanoseconds)];
    ++total_;
    sum_ += nanoseconds;
    if (nanoseconds > max_) max_ = nanoseconds;
  }
  void merge(const LatencyHistogram& other);
  /// What was recorded after `earlier`, a copy of this histogram, was made. max_ns() is that of
  /// all.
  LatencyHistogram since(const LatencyHistogram& earlier) const;
  void reset() { *this = LatencyHistogram(); }

  std::uint64_t count() const { return total_; }
  std::uint64_t max_ns() const { return max_; }
  std::uint64_t sum_ns() const { return sum_; }
  /// Upper bound of the bucket that holds the `fraction` (0…1) quantile; 0 if nothing was recorded.
  std::uint64_t quantile_ns(double fraction) const;

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

  std::array<std::uint64_t, kBuckets> counts_{};
  std::uint64_t total_ = 0;
  std::uint64_t sum_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// LatencyHistogram: logarithmic buckets of 1/64 relative width; adding costs a few nanoseconds.
// Units: nanoseconds. Thread rule: one thread.
#pragma once

#include <array>
#include <cstdint>

namespace blockmig::bench {

class LatencyHistogram {
 public:
  void add(std::uint64_t ns) {
    ++buckets_[bucket_of(ns)];
    ++count_;
    if (ns > max_) max_ = ns;
  }
  void merge(const LatencyHistogram& other);
  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  /// The upper bound of the bucket that holds the `fraction` quantile (0 < fraction <= 1).
  std::uint64_t quantile(double fraction) const;
  void clear() { *this = LatencyHistogram(); }

 private:
  static constexpr unsigned kSubBits = 6;
  static unsigned bucket_of(std::uint64_t ns);
  static std::uint64_t upper_bound(unsigned bucket);

  std::array<std::uint64_t, 64u << kSubBits> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

/// CLOCK_MONOTONIC.
std::uint64_t now_ns();
/// User and system time of the calling thread so far.
std::uint64_t thread_cpu_ns();

}  // namespace blockmig::bench

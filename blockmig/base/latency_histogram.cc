// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/latency_histogram.h"

#include <algorithm>
#include <cmath>

namespace blockmig {

void LatencyHistogram::merge(const LatencyHistogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) counts_[i].add(other.counts_[i].value());
  sum_.add(other.sum_ns());
  max_.raise_to(other.max_ns());
}

LatencyHistogram LatencyHistogram::since(const LatencyHistogram& earlier) const {
  LatencyHistogram difference = *this;
  for (std::size_t i = 0; i < kBuckets; ++i) difference.counts_[i].sub(earlier.counts_[i].value());
  difference.sum_.sub(earlier.sum_ns());
  return difference;
}

std::uint64_t LatencyHistogram::upper_bound(std::size_t bucket) {
  if (bucket < kSub) return bucket;
  const std::size_t exponent = bucket / kSub - 1;
  return ((static_cast<std::uint64_t>(kSub + bucket % kSub) + 1) << exponent) - 1;
}

std::uint64_t LatencyHistogram::count() const {
  std::uint64_t total = 0;
  for (const Counter& bucket : counts_) total += bucket.value();
  return total;
}

std::uint64_t LatencyHistogram::quantile_ns(double fraction) const {
  const std::uint64_t total = count();
  if (total == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(total)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i].value();
    if (seen >= wanted && seen > 0) return std::min(upper_bound(i), max_ns());
  }
  return max_ns();
}

std::uint64_t LatencyHistogram::count_up_to(std::uint64_t nanoseconds) const {
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets && upper_bound(i) <= nanoseconds; ++i) {
    seen += counts_[i].value();
  }
  return seen;
}

}  // namespace blockmig

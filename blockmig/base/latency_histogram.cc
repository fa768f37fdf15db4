// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/latency_histogram.h"

#include <algorithm>
#include <cmath>

namespace blockmig {

void LatencyHistogram::merge(const LatencyHistogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  total_ += other.total_;
  sum_ += other.sum_;
  max_ = std::max(max_, other.max_);
}

LatencyHistogram LatencyHistogram::since(const LatencyHistogram& earlier) const {
  LatencyHistogram difference = *this;
  for (std::size_t i = 0; i < kBuckets; ++i) difference.counts_[i] -= earlier.counts_[i];
  difference.total_ -= earlier.total_;
  difference.sum_ -= earlier.sum_;
  return difference;
}

std::uint64_t LatencyHistogram::upper_bound(std::size_t bucket) {
  if (bucket < kSub) return bucket;
  const std::size_t exponent = bucket / kSub - 1;
  return ((static_cast<std::uint64_t>(kSub + bucket % kSub) + 1) << exponent) - 1;
}

std::uint64_t LatencyHistogram::quantile_ns(double fraction) const {
  if (total_ == 0) return 0;
  const auto wanted = static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(total_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= wanted && seen > 0) return std::min(upper_bound(i), max_);
  }
  return max_;
}

}  // namespace blockmig

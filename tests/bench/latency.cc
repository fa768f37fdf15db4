// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/latency.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <ctime>

namespace blockmig::bench {

unsigned LatencyHistogram::bucket_of(std::uint64_t ns) {
  if (ns < (1u << kSubBits)) return static_cast<unsigned>(ns);
  const auto exponent = static_cast<unsigned>(std::bit_width(ns)) - 1 - kSubBits;
  const auto sub = static_cast<unsigned>(ns >> exponent) & ((1u << kSubBits) - 1);
  return ((exponent + 1) << kSubBits) + sub;
}

std::uint64_t LatencyHistogram::upper_bound(unsigned bucket) {
  if (bucket < (1u << kSubBits)) return bucket;
  const unsigned exponent = (bucket >> kSubBits) - 1;
  const std::uint64_t sub = bucket & ((1u << kSubBits) - 1);
  return ((((1ull << kSubBits) + sub + 1) << exponent) - 1);
}

void LatencyHistogram::merge(const LatencyHistogram& other) {
  for (std::size_t i = 0; i < buckets_.size(); ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  max_ = std::max(max_, other.max_);
}

std::uint64_t LatencyHistogram::quantile(double fraction) const {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(fraction * static_cast<double>(count_)));
  std::uint64_t seen = 0;
  for (unsigned i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= wanted && seen > 0) return std::min(upper_bound(i), max_);
  }
  return max_;
}

namespace {
std::uint64_t read_clock(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}
}  // namespace

std::uint64_t now_ns() { return read_clock(CLOCK_MONOTONIC); }
std::uint64_t thread_cpu_ns() { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace blockmig::bench

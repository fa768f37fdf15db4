// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "blockmig/base/random.h"

namespace blockmig {
namespace {

TEST(LatencyHistogram, EmptySaysZero) {
  EXPECT_EQ(LatencyHistogram().quantile_ns(0.99), 0u);
  EXPECT_EQ(LatencyHistogram().max_ns(), 0u);
}

TEST(LatencyHistogram, QuantilesAreWithinASixteenthOfTheTruth) {
  Random random(1);
  LatencyHistogram histogram;
  std::vector<std::uint64_t> values;
  for (int i = 0; i < 10'000; ++i) {
    values.push_back(random.below(1ULL << random.between(1, 34)));
    histogram.record(values.back());
  }
  std::sort(values.begin(), values.end());
  for (const double fraction : {0.01, 0.5, 0.9, 0.99, 0.999}) {
    const std::uint64_t truth = values[static_cast<std::size_t>(fraction * 10'000) - 1];
    EXPECT_GE(histogram.quantile_ns(fraction), truth);
    EXPECT_LE(histogram.quantile_ns(fraction), truth + truth / 16 + 1);
  }
  EXPECT_EQ(histogram.max_ns(), values.back());
  EXPECT_EQ(histogram.quantile_ns(1.0), values.back());
}

TEST(LatencyHistogram, SinceForgetsWhatCameBefore) {
  LatencyHistogram histogram;
  for (int i = 0; i < 100; ++i) histogram.record(1'000'000);
  const LatencyHistogram before = histogram;
  for (int i = 0; i < 10; ++i) histogram.record(1'000);
  EXPECT_EQ(histogram.since(before).count(), 10u);
  EXPECT_LE(histogram.since(before).quantile_ns(0.99), 1'063u);
}

TEST(LatencyHistogram, MergeAddsUp) {
  LatencyHistogram a;
  LatencyHistogram b;
  a.record(10);
  b.record(1'000'000);
  a.merge(b);
  EXPECT_EQ(a.count(), 2u);
  EXPECT_EQ(a.sum_ns(), 1'000'010u);
  EXPECT_EQ(a.max_ns(), 1'000'000u);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/counter.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "blockmig/base/latency_histogram.h"

namespace blockmig {
namespace {

TEST(Counter, CountsUpAndDown) {
  Counter counter;
  counter.add();
  counter.add(41);
  counter.sub(2);
  EXPECT_EQ(counter.value(), 40u);
  counter.raise_to(39);
  EXPECT_EQ(counter.value(), 40u);
  counter.raise_to(50);
  EXPECT_EQ(counter.take(), 50u);
  EXPECT_EQ(counter.value(), 0u);
}

TEST(Counter, ACopyIsASnapshot) {
  Counter counter(7);
  const Counter before = counter;
  counter.add();
  EXPECT_EQ(before.value(), 7u);
  EXPECT_EQ(counter.value(), 8u);
}

TEST(Counter, AReaderNeverSeesItGoBackwards) {
  constexpr std::uint64_t kCounts = 200'000;
  Counter counter;
  std::thread writer([&counter] {
    for (std::uint64_t i = 0; i < kCounts; ++i) counter.add();
  });
  std::uint64_t last = 0;
  bool backwards = false;
  while (last < kCounts) {
    const std::uint64_t now = counter.value();
    backwards = backwards || now < last;
    last = now;
  }
  writer.join();
  EXPECT_FALSE(backwards);
  EXPECT_EQ(counter.value(), kCounts);
}

TEST(LatencyHistogram, ASnapshotTakenWhileItIsWrittenIsConsistent) {
  LatencyHistogram histogram;
  std::atomic<bool> done = false;
  std::thread writer([&histogram, &done] {
    for (std::uint64_t i = 0; i < 100'000; ++i) histogram.record(i % 5'000);
    done.store(true);
  });
  std::uint64_t last = 0;
  while (!done.load()) {
    const LatencyHistogram snapshot = histogram;
    EXPECT_GE(snapshot.count(), last);
    EXPECT_LE(snapshot.quantile_ns(0.99), snapshot.quantile_ns(1.0));
    EXPECT_EQ(snapshot.count_up_to(1ULL << 40), snapshot.count());
    last = snapshot.count();
  }
  writer.join();
  EXPECT_EQ(histogram.count(), 100'000u);
}

TEST(LatencyHistogram, CountUpToIsExactAtPowersOfTwo) {
  LatencyHistogram histogram;
  for (std::uint64_t ns = 0; ns < 4096; ++ns) histogram.record(ns);
  for (const std::uint64_t edge : {1u, 16u, 1024u, 2048u, 4096u}) {
    EXPECT_EQ(histogram.count_up_to(edge - 1), edge);
  }
  EXPECT_LE(histogram.count_up_to(3000), 3001u);
  EXPECT_EQ(histogram.count_up_to(1'000'000), 4096u);
}

}  // namespace
}  // namespace blockmig

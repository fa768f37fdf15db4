// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/heat_map.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace blockmig {
namespace {

using std::chrono::seconds;
constexpr std::uint64_t kChunk = HeatMap::kLeastRegionBytes;
const TimePoint kStart{std::chrono::hours(1)};

TEST(HeatMap, EveryRegionThatARequestTouchesGetsItsHeat) {
  HeatMap heat(8 * kChunk);
  heat.record(kChunk - 512, 1024, kStart);
  EXPECT_DOUBLE_EQ(heat.heat(0, kStart), 1);
  EXPECT_DOUBLE_EQ(heat.heat(kChunk + 5, kStart), 1);
  EXPECT_DOUBLE_EQ(heat.heat(2 * kChunk, kStart), 0);
}

TEST(HeatMap, HeatHalvesInAHalfLifeAndIsGoneInTheEnd) {
  HeatMap heat(kChunk, seconds(10));
  for (int i = 0; i < 8; ++i) heat.record(0, 512, kStart);
  EXPECT_NEAR(heat.heat(0, kStart + seconds(10)), 4, 1e-4);
  EXPECT_NEAR(heat.heat(0, kStart + seconds(30)), 1, 1e-4);
  heat.record(0, 512, kStart + seconds(30));
  EXPECT_NEAR(heat.heat(0, kStart + seconds(30)), 2, 1e-4);
  EXPECT_DOUBLE_EQ(heat.heat(0, kStart + seconds(300)), 0);
}

TEST(HeatMap, WhatIsHotNowIsHotterThanWhatWasHotOnce) {
  HeatMap heat(4 * kChunk, seconds(5));
  for (int i = 0; i < 100; ++i) heat.record(0, 512, kStart);
  for (int i = 0; i < 10; ++i) heat.record(3 * kChunk, 512, kStart + seconds(60));
  const auto hot = heat.at_least(1, kStart + seconds(60));
  ASSERT_EQ(hot.size(), 1u);
  EXPECT_EQ(hot[0].range.offset, 3 * kChunk);
}

TEST(HeatMap, TheHotComeInOrderAndTheOthersNotAtAll) {
  HeatMap heat(100 * kChunk + 17);
  for (std::uint64_t region = 0; region < 101; region += 10) {
    for (std::uint64_t i = 0; i <= region; ++i) heat.record(region * kChunk, 1, kStart);
  }
  const auto warm = heat.at_least(71, kStart);
  ASSERT_EQ(warm.size(), 4u);
  EXPECT_EQ(warm[0].range.offset, 70 * kChunk);
  EXPECT_EQ(warm[1].range.offset, 80 * kChunk);
  EXPECT_EQ(warm[2].range.offset, 90 * kChunk);
  EXPECT_EQ(warm[3].range, (ByteRange{100 * kChunk, 17})) << "the odd-sized tail";
  EXPECT_EQ(heat.at_least(1, kStart).size(), 11u);
  const HeatMap::Summary summary = heat.summary(71, kStart);
  EXPECT_EQ(summary.hot_bytes, 3 * kChunk + 17);
  EXPECT_NEAR(summary.hot, 71 + 81 + 91 + 101, 0.1);
  EXPECT_NEAR(summary.all, 11 * 51, 0.1);
}

TEST(HeatMap, MemoryIsBoundedWhateverTheSizeOfTheDisk) {
  constexpr std::uint64_t kSize = 16 * kTiB;
  HeatMap heat(kSize);
  EXPECT_EQ(heat.region_bytes(), 16 * kMiB);
  EXPECT_LT(heat.memory_bytes(), 64 * kKiB) << "nothing where nobody has been";
  heat.record(0, kSize, kStart);
  EXPECT_DOUBLE_EQ(heat.heat(kSize - 1, kStart), 0) << "one request heats not the whole disk";
  for (std::uint64_t at = 0; at < kSize; at += heat.region_bytes()) heat.record(at, 1, kStart);
  EXPECT_LE(heat.memory_bytes(), 9 * kMiB);
}

TEST(HeatMap, SamplesAddUpToWhatWasAsked) {
  HeatMap heat(2 * kChunk, std::chrono::hours(1));
  HeatSampler sampler(heat);
  for (int i = 0; i < 100'000; ++i) sampler.record(i % 4 == 0 ? kChunk : 0, 512, kStart);
  EXPECT_NEAR(heat.heat(0, kStart), 75'000, 3'000);
  EXPECT_NEAR(heat.heat(kChunk, kStart), 25'000, 2'000);
}

TEST(HeatMap, ThreadsRecordAtOnce) {
  HeatMap heat(4096 * kChunk);
  std::vector<std::thread> threads;
  for (std::uint64_t part = 0; part < 4; ++part) {
    threads.emplace_back([&heat, part] {
      for (std::uint64_t region = 0; region < 4096; ++region) {
        heat.record((region * 4 + part) % 4096 * kChunk, 512, kStart);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(heat.at_least(1, kStart).size(), 4096u);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/chunk_order.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = HeatMap::kLeastRegionBytes;
const TimePoint kNow{std::chrono::hours(1)};

/// The chunks of a disk of eight in the order of a whole pass.
std::vector<std::uint64_t> pass(ChunkOrder& order) {
  std::vector<std::uint64_t> taken;
  order.begin_pass(kNow);
  do {
    for (std::uint64_t chunk = 0; chunk < 8; ++chunk) {
      if (order.takes({chunk * kChunk, kChunk})) taken.push_back(chunk);
    }
  } while (order.next_sweep());
  return taken;
}

TEST(ChunkOrder, SequentialTakesAllAtOnce) {
  EXPECT_EQ(pass(*make_sequential_order()), (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(ChunkOrder, HotChunksComeLastAndEachChunkOnce) {
  HeatMap heat(8 * kChunk);
  heat.record(2 * kChunk, 1, kNow, 500);
  heat.record(5 * kChunk, 1, kNow, 40);
  const auto order = make_hot_last_order(heat);
  EXPECT_EQ(pass(*order), (std::vector<std::uint64_t>{0, 1, 3, 4, 5, 6, 7, 2}))
      << "chunk 5 is below four times the even share";
  EXPECT_EQ(pass(*order), (std::vector<std::uint64_t>{0, 1, 3, 4, 5, 6, 7, 2})) << "every pass";
}

TEST(ChunkOrder, ColdOnlyLeavesTheHotOnes) {
  HeatMap heat(8 * kChunk);
  EXPECT_EQ(pass(*make_cold_only_order(heat)).size(), 8u);
  heat.record(2 * kChunk, 1, kNow, 500);
  EXPECT_EQ(pass(*make_cold_only_order(heat)), (std::vector<std::uint64_t>{0, 1, 3, 4, 5, 6, 7}));
}

TEST(ChunkOrder, ChunksOfOneRegionShareItsHeat) {
  HeatMap heat(8 * kChunk);
  heat.record(kChunk + 4096, 1, kNow, 500);
  const auto order = make_hot_last_order(heat);
  order->begin_pass(kNow);
  EXPECT_FALSE(order->takes({kChunk, 4096}));
  EXPECT_FALSE(order->takes({0, 2 * kChunk})) << "a chunk larger than a region";
  EXPECT_TRUE(order->takes({0, kChunk}));
}

TEST(ChunkOrder, EvenHeatIsNoHeat) {
  HeatMap heat(8 * kChunk);
  for (std::uint64_t chunk = 0; chunk < 8; ++chunk) heat.record(chunk * kChunk, 1, kNow, 1000);
  EXPECT_EQ(pass(*make_hot_last_order(heat)), (std::vector<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(ChunkOrder, ASampleAloneProvesNothing) {
  EXPECT_DOUBLE_EQ(hot_threshold({}, 100), 2.0 * HeatSampler::kOneIn);
  EXPECT_DOUBLE_EQ(hot_threshold({{{0, kChunk}, 1000}, {{kChunk, kChunk}, 200}}, 10), 480);
}

}  // namespace
}  // namespace blockmig

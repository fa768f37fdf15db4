// SPDX-License-Identifier: Apache-2.0
#include "bitmap/dirty_filter.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

constexpr std::uint64_t kBlock = DirtyFilter::kBlockChunks;
constexpr std::size_t kBlockBytes = DirtyFilter::kBlockWords * 8;

TEST(DirtyFilter, OnlyMixedBlocksHaveMemory) {
  DirtyFilter filter(4 * kBlock + 7);
  const std::size_t empty = filter.memory_bytes();
  filter.set(kBlock + 3);
  filter.set(kBlock + 4);
  EXPECT_EQ(filter.memory_bytes(), empty + kBlockBytes);
  filter.set_range(0, 4 * kBlock);  // four uniform blocks
  EXPECT_EQ(filter.memory_bytes(), empty);
  filter.clear_range(5, 6);
  EXPECT_EQ(filter.memory_bytes(), empty + kBlockBytes);
  filter.set(5);  // full again, by a single bit
  EXPECT_EQ(filter.memory_bytes(), empty);
  filter.clear_range(0, 10);
  filter.clear_range(10, kBlock);  // empty again, by parts
  EXPECT_EQ(filter.memory_bytes(), empty);
  EXPECT_EQ(filter.count(), 3 * kBlock);
}

TEST(DirtyFilter, AShortLastBlockEndsWhereTheDiskEnds) {
  DirtyFilter filter(kBlock + 7);
  EXPECT_EQ(filter.set_range(0, kBlock + 7), kBlock + 7);
  EXPECT_EQ(filter.count(), kBlock + 7);
  EXPECT_EQ(filter.next_clear(0, kBlock + 7), kBlock + 7);
  EXPECT_EQ(filter.clear_range(kBlock + 6, kBlock + 7), 1U);
  EXPECT_EQ(filter.next_clear(0, kBlock + 7), kBlock + 6);
  EXPECT_EQ(filter.set_range(0, kBlock + 7), 1U);
}

TEST(DirtyFilter, RangesAreCountedOnce) {
  DirtyFilter filter(3 * kBlock);
  EXPECT_EQ(filter.set_range(10, 10), 0U);
  EXPECT_EQ(filter.set_range(63, 65), 2U);
  EXPECT_EQ(filter.set_range(60, 70), 8U);
  EXPECT_EQ(filter.set_range(0, 3 * kBlock), 3 * kBlock - 10);
  EXPECT_EQ(filter.clear_range(64, 128), 64U);
  EXPECT_EQ(filter.clear_range(0, 3 * kBlock), 3 * kBlock - 64);
  EXPECT_EQ(filter.count(), 0U);
}

TEST(DirtyFilter, SearchesStopAtTheirEnd) {
  DirtyFilter filter(3 * kBlock);
  filter.set(2 * kBlock + 100);
  EXPECT_EQ(filter.next_set(0, 3 * kBlock), 2 * kBlock + 100);
  EXPECT_EQ(filter.next_set(0, 2 * kBlock + 100), 2 * kBlock + 100);  // not found: the end
  EXPECT_EQ(filter.next_set(2 * kBlock + 101, 3 * kBlock), 3 * kBlock);
  EXPECT_EQ(filter.next_set(5, 5), 5U);
  filter.set_range(0, 3 * kBlock);
  filter.clear_range(kBlock, kBlock + 1);
  EXPECT_EQ(filter.next_clear(0, 3 * kBlock), kBlock);
  EXPECT_EQ(filter.next_clear(0, 70), 70U);
}

TEST(DirtyFilter, FiltersDoNotShareWhatTheyChange) {
  DirtyFilter a(kBlock);
  DirtyFilter b(kBlock);
  a.set_range(0, kBlock);
  b.set_range(0, kBlock);
  a.clear_range(7, 8);
  EXPECT_TRUE(b.test(7));
  a.clear_range(0, kBlock);
  a.set(9);
  const DirtyFilter c(kBlock);
  EXPECT_FALSE(c.test(9));
}

}  // namespace
}  // namespace blockmig

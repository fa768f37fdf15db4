// SPDX-License-Identifier: Apache-2.0
#include "bitmap/dirty_filter.h"

#include <gtest/gtest.h>

#include "bitmap/heap_bytes.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kBlock = DirtyFilter::kBlockChunks;
constexpr std::size_t kBlockBytes = heap_bytes(DirtyFilter::kBlockWords * 8);
constexpr std::size_t kSparseAtMost = 340;  ///< with the few chunks of these tests
constexpr std::uint64_t kDenseAnyway = DirtyFilter::kDenseAnyway;
constexpr std::uint64_t kMaxSparse = SparseBlock::kMaxChunks;

/// Blocks of one chunk each, so that the next one is sparse.
void use_up_dense(DirtyFilter& filter) {
  for (std::uint64_t i = 0; i < kDenseAnyway; ++i) filter.set(i * kBlock);
}

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

TEST(DirtyFilter, TheFirstMixedBlocksAreDenseAndTheOthersSparse) {
  DirtyFilter filter(kDenseAnyway * kBlock + kBlock);
  const std::size_t empty = filter.memory_bytes();
  use_up_dense(filter);
  EXPECT_EQ(filter.memory_bytes(), empty + kDenseAnyway * kBlockBytes);
  filter.set(kDenseAnyway * kBlock + 7);
  EXPECT_GT(filter.memory_bytes(), empty + kDenseAnyway * kBlockBytes);
  EXPECT_LE(filter.memory_bytes(), empty + kDenseAnyway * kBlockBytes + kSparseAtMost);
  EXPECT_TRUE(filter.test(kDenseAnyway * kBlock + 7));
  EXPECT_FALSE(filter.test(kDenseAnyway * kBlock + 8));
}

TEST(DirtyFilter, ABlockBecomesDenseAboveItsLimitAndSparseAgainWellBelow) {
  DirtyFilter filter(kDenseAnyway * kBlock + kBlock);
  use_up_dense(filter);
  const std::size_t before = filter.memory_bytes();
  const std::uint64_t base = kDenseAnyway * kBlock;
  for (std::uint64_t i = 0; i < kMaxSparse; ++i) filter.set(base + i * 21);
  EXPECT_LT(filter.memory_bytes(), before + kBlockBytes / 2);
  filter.set(base + 20);
  EXPECT_EQ(filter.memory_bytes(), before + kBlockBytes);
  // Back below the limit, by far: the form stays, until half is gone.
  for (std::uint64_t i = 0; i < kMaxSparse - DirtyFilter::kSparseAgain; ++i) {
    filter.clear_range(base + i * 21, base + i * 21 + 1);
    ASSERT_EQ(filter.memory_bytes(), before + kBlockBytes) << i;
  }
  filter.clear_range(base + 20, base + 21);
  EXPECT_LT(filter.memory_bytes(), before + kBlockBytes / 3);
  EXPECT_EQ(filter.count(), kDenseAnyway + DirtyFilter::kSparseAgain);
  for (std::uint64_t i = 0; i < kBlock; ++i) {
    const bool left =
        i % 21 == 0 && i / 21 < kMaxSparse && i / 21 >= kMaxSparse - DirtyFilter::kSparseAgain;
    ASSERT_EQ(filter.test(base + i), left) << i;
  }
}

TEST(DirtyFilter, ASparseBlockGivesBackTheRoomThatItDoesNotNeed) {
  DirtyFilter filter(kDenseAnyway * kBlock + kBlock);
  use_up_dense(filter);
  const std::size_t before = filter.memory_bytes();
  const std::uint64_t base = kDenseAnyway * kBlock;
  filter.set_range(base + 100, base + 100 + kMaxSparse);
  EXPECT_GT(filter.memory_bytes(), before + kMaxSparse);
  filter.clear_range(base + 103, base + kBlock);
  EXPECT_LE(filter.memory_bytes(), before + kSparseAtMost);
  EXPECT_EQ(filter.next_clear(base + 100, base + kBlock), base + 103);
  filter.clear_range(base + 100, base + 103);
  EXPECT_EQ(filter.memory_bytes(), before);
}

TEST(DirtyFilter, AFullBlockThatIsNearlyEmptiedIsSparse) {
  DirtyFilter filter(kDenseAnyway * kBlock + kBlock + 100);
  use_up_dense(filter);
  const std::size_t before = filter.memory_bytes();
  const std::uint64_t base = kDenseAnyway * kBlock;
  filter.set_range(base, base + kBlock);
  EXPECT_EQ(filter.clear_range(base + 5, base + kBlock), kBlock - 5);
  EXPECT_LE(filter.memory_bytes(), before + kSparseAtMost);
  EXPECT_EQ(filter.next_clear(base, base + kBlock), base + 5);
  // The short last block is never the shared full one.
  EXPECT_EQ(filter.set_range(base + kBlock, base + kBlock + 100), 100U);
  EXPECT_EQ(filter.next_clear(base + kBlock, base + kBlock + 100), base + kBlock + 100);
  EXPECT_LE(filter.memory_bytes(), before + 2 * kSparseAtMost + 64);
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

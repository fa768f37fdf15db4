// SPDX-License-Identifier: Apache-2.0
#include "bitmap/dirty_bitmap.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "bitmap/bitmap_codec.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

using Runs = std::vector<DirtyBitmap::Run>;

std::unique_ptr<DirtyBitmap> make(std::uint64_t size, std::uint32_t granularity = 65536) {
  auto bitmap = DirtyBitmap::create(size, granularity);
  EXPECT_TRUE(bitmap.ok());
  return *std::move(bitmap);
}

TEST(DirtyBitmap, CreateRefusesWhatItCannotCount) {
  for (const std::uint32_t granularity : {0U, 1U, 2048U, 4097U, 98304U, 2097152U, 0x80000000U}) {
    const auto bitmap = DirtyBitmap::create(kGiB, granularity);
    ASSERT_FALSE(bitmap.ok()) << granularity;
    EXPECT_EQ(bitmap.error().code(), ErrorCode::kInvalid);
    EXPECT_NE(bitmap.error().message().find(std::to_string(granularity)), std::string::npos);
  }
  EXPECT_TRUE(DirtyBitmap::create(16 * kTiB, 4096).ok());
  EXPECT_FALSE(DirtyBitmap::create(16 * kTiB + 1, 4096).ok());
  EXPECT_FALSE(DirtyBitmap::create(~0ULL, 1048576).ok());
}

TEST(DirtyBitmap, AnEmptyDiskHasNothing) {
  const auto bitmap = make(0);
  EXPECT_EQ(bitmap->chunk_count(), 0U);
  bitmap->mark(0, 0);
  bitmap->mark_all();
  bitmap->clear(0, 0);
  EXPECT_EQ(bitmap->dirty_count(), 0U);
  EXPECT_EQ(bitmap->dirty_bytes(), 0U);
  EXPECT_EQ(bitmap->next_dirty(0), std::nullopt);
  EXPECT_TRUE(bitmap->runs(0, 0, 10).empty());
  EXPECT_TRUE(bitmap->lease(0, 10).empty());
}

TEST(DirtyBitmap, OneByteDirtiesItsChunk) {
  const auto bitmap = make(kMiB);
  bitmap->mark(65535, 1);
  EXPECT_TRUE(bitmap->is_dirty(0));
  EXPECT_FALSE(bitmap->is_dirty(1));
  bitmap->mark(65536 * 3, 1);
  EXPECT_TRUE(bitmap->is_dirty(3));
  EXPECT_EQ(bitmap->dirty_count(), 2U);
}

TEST(DirtyBitmap, MarkCoversBothEndsOfAnUnalignedWrite_Trap6And7) {
  const auto bitmap = make(kMiB);
  bitmap->mark(65535, 65538);  // the last byte of 0, all of 1, the first byte of 2
  EXPECT_EQ(bitmap->dirty_count(), 3U);
  EXPECT_TRUE(bitmap->is_dirty(0) && bitmap->is_dirty(1) && bitmap->is_dirty(2));
}

TEST(DirtyBitmap, MarkOfNothingMarksNothing) {
  const auto bitmap = make(kMiB);
  bitmap->mark(100, 0);
  bitmap->mark(kMiB, 0);
  EXPECT_EQ(bitmap->dirty_count(), 0U);
}

TEST(DirtyBitmap, TheTailChunkIsShort_Trap7) {
  const auto bitmap = make(65536 * 2 + 100);
  EXPECT_EQ(bitmap->chunk_count(), 3U);
  EXPECT_EQ(bitmap->chunk_range(2), (ByteRange{131072, 100}));
  bitmap->mark(131072 + 99, 1);
  EXPECT_TRUE(bitmap->is_dirty(2));
  EXPECT_EQ(bitmap->dirty_bytes(), 100U);
  bitmap->mark_all();
  EXPECT_EQ(bitmap->dirty_bytes(), 65536U * 2 + 100);
  const DirtyLease lease = bitmap->lease(0, 10);
  EXPECT_EQ(lease.range(2), (ByteRange{131072, 100}));
}

TEST(DirtyBitmap, ClearNeverRoundsOverANeighboursDirt_Trap6) {
  const auto bitmap = make(65536 * 4 + 512);
  bitmap->mark_all();
  bitmap->clear(512, 65536 * 2);  // wholly inside: chunk 1 only
  EXPECT_TRUE(bitmap->is_dirty(0));
  EXPECT_FALSE(bitmap->is_dirty(1));
  EXPECT_TRUE(bitmap->is_dirty(2));
  bitmap->clear(65536 * 2, 65535);  // one byte short of a chunk
  EXPECT_TRUE(bitmap->is_dirty(2));
  bitmap->clear(65536 * 4 + 1, 511);  // inside the tail chunk, up to the disk's end
  EXPECT_TRUE(bitmap->is_dirty(4));
  bitmap->clear(65536 * 4, 511);
  EXPECT_TRUE(bitmap->is_dirty(4));
  bitmap->clear(65536 * 4, 512);  // the disk's end is the tail chunk's end
  EXPECT_FALSE(bitmap->is_dirty(4));
}

TEST(DirtyBitmap, MarkAfterClearIsNotLostInTheLog) {
  const auto bitmap = make(kMiB);
  bitmap->mark(0, 1);
  bitmap->clear_all();
  EXPECT_TRUE(bitmap->lease(0, 100).empty());
  bitmap->mark(0, 1);
  bitmap->clear(0, 65536);
  bitmap->mark(65536, 1);
  const DirtyLease lease = bitmap->lease(0, 100);
  EXPECT_EQ(lease.chunks(), (std::vector<std::uint32_t>{1}));
}

TEST(DirtyBitmap, RunsCoverTheRangeWithoutGaps) {
  const auto bitmap = make(65536 * 4 + 10);
  bitmap->mark(65536, 65536 * 2);
  bitmap->mark(65536 * 4, 1);
  EXPECT_EQ(bitmap->runs(0, bitmap->size_bytes(), 100), (Runs{{{0, 65536}, false},
                                                              {{65536, 131072}, true},
                                                              {{196608, 65536}, false},
                                                              {{262144, 10}, true}}));
  EXPECT_EQ(bitmap->runs(65536 + 7, 3, 100), (Runs{{{65543, 3}, true}}));
  EXPECT_EQ(bitmap->runs(65530, 12, 100), (Runs{{{65530, 6}, false}, {{65536, 6}, true}}));
  EXPECT_EQ(bitmap->runs(0, bitmap->size_bytes(), 2).size(), 2U);
  EXPECT_TRUE(bitmap->runs(0, 10, 0).empty());
}

TEST(DirtyBitmap, MergeOfAnotherGranularityRoundsOutwards) {
  const auto fine = make(kMiB + 7, 4096);
  const auto coarse = make(kMiB + 7, 65536);
  fine->mark(65536 + 4096, 1);
  fine->mark(kMiB, 1);
  coarse->merge(*fine);
  EXPECT_EQ(coarse->dirty_count(), 2U);
  EXPECT_TRUE(coarse->is_dirty(1) && coarse->is_dirty(16));
  const auto again = make(kMiB + 7, 4096);
  again->merge(*coarse);
  EXPECT_EQ(again->dirty_count(), 17U);
  EXPECT_EQ(again->dirty_bytes(), 65536U + 7);
  EXPECT_EQ(fine->dirty_count(), 2U) << "the other one is untouched";
  fine->merge(*fine);
  EXPECT_EQ(fine->dirty_count(), 2U);
}

TEST(DirtyBitmap, LargestIndicesWork) {
  const auto bitmap = make(16 * kTiB, 4096);
  EXPECT_EQ(bitmap->chunk_count(), 1ULL << 32);
  bitmap->mark(16 * kTiB - 1, 1);
  EXPECT_EQ(bitmap->next_dirty(0), (1ULL << 32) - 1);
  EXPECT_EQ(bitmap->next_dirty(1ULL << 32), std::nullopt);
  EXPECT_EQ(bitmap->next_dirty(~0ULL), std::nullopt);
  EXPECT_TRUE(bitmap->any_dirty(8 * kTiB, 8 * kTiB));
  {
    DirtyLease lease = bitmap->lease(0, 10);
    EXPECT_EQ(lease.chunks(), (std::vector<std::uint32_t>{0xffffffffU}));
    EXPECT_EQ(lease.range(0), (ByteRange{16 * kTiB - 4096, 4096}));
  }
  EXPECT_TRUE(bitmap->is_dirty((1ULL << 32) - 1));
  EXPECT_TRUE(bitmap->lease(1ULL << 32, 10).empty());
  bitmap->mark_all();
  EXPECT_EQ(bitmap->dirty_bytes(), 16 * kTiB);
  bitmap->clear(0, 16 * kTiB);
  EXPECT_EQ(bitmap->dirty_count(), 0U);
}

TEST(DirtyBitmap, ALargeDiskIsCheapUntilItIsDirtyAtRandom) {
  const auto bitmap = make(16 * kTiB);
  EXPECT_LT(bitmap->memory_bytes(), 128 * kKiB);
  bitmap->mark_all();
  EXPECT_LT(bitmap->memory_bytes(), 512 * kKiB);
  bitmap->clear_all();
  EXPECT_LT(bitmap->memory_bytes(), 128 * kKiB);
  // 1 GiB written in one place.
  for (std::uint64_t at = 0; at < kGiB; at += 65536) bitmap->mark(5 * kTiB + at, 65536);
  EXPECT_LT(bitmap->memory_bytes(), 256 * kKiB);
  // One chunk in every 2 GiB: every block has memory of its own, but little.
  for (std::uint64_t at = 0; at < 16 * kTiB; at += 2 * kGiB) bitmap->mark(at, 1);
  EXPECT_LT(bitmap->memory_bytes(), 4 * kMiB);
}

/// Of a disk of `size_bytes` with `per_mille` of its chunks dirty at random. They are marked in
/// ascending order: quicker, and the same set.
std::size_t bytes_dirty_at_random(std::uint64_t size_bytes, std::uint64_t per_mille) {
  const auto bitmap = make(size_bytes);
  Random random(7);
  const std::uint64_t longest_gap = 2000 / per_mille - 1;  // so that the mean is what is wanted
  for (std::uint64_t chunk = 0; chunk < bitmap->chunk_count();
       chunk += random.between(1, longest_gap)) {
    bitmap->mark(chunk * 65536, 1);
  }
  EXPECT_NEAR(static_cast<double>(bitmap->dirty_count()),
              static_cast<double>(bitmap->chunk_count() * per_mille / 1000),
              static_cast<double>(bitmap->chunk_count()) / 1000);
  static_cast<void>(encode_bitmap(*bitmap));  // folds the log
  return bitmap->memory_bytes();
}

TEST(DirtyBitmap, ARandomlyDirtyLargeDiskCostsLessThanAFlatBitmap) {
  constexpr std::uint64_t kFlatBytes = 16 * kTiB / 65536 / 8;
  EXPECT_LT(bytes_dirty_at_random(16 * kTiB, 1), kFlatBytes / 8);
  EXPECT_LT(bytes_dirty_at_random(16 * kTiB, 10), kFlatBytes / 2);
  const auto in_one_run = make(16 * kTiB);
  in_one_run->mark(3 * kTiB + 12345, 16 * kTiB / 100);
  EXPECT_LT(in_one_run->memory_bytes(), kFlatBytes / 200);
}

TEST(DirtyBitmap, UpToThreePercentAtRandomCostLessThanFlatAndTenCostTwice) {
  constexpr std::uint64_t kFlatBytes = 2 * kTiB / 65536 / 8;
  EXPECT_LT(bytes_dirty_at_random(2 * kTiB, 30), kFlatBytes);
  // The filter and Roaring are dense then, and each is as large as a flat bitmap.
  EXPECT_GT(bytes_dirty_at_random(2 * kTiB, 100), kFlatBytes);
  EXPECT_LT(bytes_dirty_at_random(2 * kTiB, 100), 2 * kFlatBytes + 128 * kKiB);
}

TEST(DirtyBitmap, MemoryComesBackWhenThePassesTookWhatWasDirty) {
  const auto bitmap = make(kTiB);
  const std::size_t clean = bitmap->memory_bytes();
  for (std::uint64_t chunk = 0; chunk < bitmap->chunk_count(); chunk += 10) {
    bitmap->mark(chunk * 65536, 1);
  }
  EXPECT_GT(bitmap->memory_bytes(), 2 * kMiB);
  for (DirtyLease lease = bitmap->lease(0, 5000); !lease.empty(); lease = bitmap->lease(0, 5000)) {
    lease.acknowledge_all();
  }
  EXPECT_EQ(bitmap->dirty_count(), 0U);
  EXPECT_LT(bitmap->memory_bytes(), clean + 16 * kKiB);
}

TEST(DirtyBitmapDeathTest, OffsetsBeyondTheDiskAbort) {
  const auto bitmap = make(kMiB);
  EXPECT_DEATH(bitmap->mark(kMiB, 1), "check failed");
  EXPECT_DEATH(bitmap->mark(1, ~0ULL), "check failed");
  EXPECT_DEATH(static_cast<void>(bitmap->is_dirty(16)), "check failed");
  EXPECT_DEATH(static_cast<void>(bitmap->lease_chunks({16})), "check failed");
}

}  // namespace
}  // namespace blockmig

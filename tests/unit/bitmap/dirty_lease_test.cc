// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "bitmap/dirty_bitmap.h"

namespace blockmig {
namespace {

using Chunks = std::vector<std::uint32_t>;

class DirtyLeaseTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto created = DirtyBitmap::create(65536 * 16 + 1, 65536);
    ASSERT_TRUE(created.ok());
    bitmap_ = *std::move(created);
  }
  void mark_chunk(std::uint64_t chunk) { bitmap_->mark(chunk * 65536, 1); }
  Chunks dirty() const {
    Chunks chunks;
    for (std::uint64_t i = 0; i < bitmap_->chunk_count(); ++i) {
      if (bitmap_->is_dirty(i)) chunks.push_back(static_cast<std::uint32_t>(i));
    }
    return chunks;
  }

  std::unique_ptr<DirtyBitmap> bitmap_;
};

TEST_F(DirtyLeaseTest, TakingClears_I6) {
  for (const std::uint64_t chunk : {9u, 2u, 5u}) mark_chunk(chunk);
  DirtyLease lease = bitmap_->lease(0, 2);
  EXPECT_EQ(lease.chunks(), (Chunks{2, 5}));
  EXPECT_EQ(dirty(), (Chunks{9}));
  EXPECT_EQ(bitmap_->dirty_count(), 1U);
  lease.acknowledge_all();
}

TEST_F(DirtyLeaseTest, WhatWasNotAcknowledgedIsDirtyAgain_I6) {
  for (const std::uint64_t chunk : {1u, 2u, 3u, 4u, 16u}) mark_chunk(chunk);
  {
    DirtyLease lease = bitmap_->lease(0, 100);
    EXPECT_EQ(lease.unacknowledged(), 5U);
    lease.acknowledge(1);
    lease.acknowledge(1);
    lease.acknowledge(3);
    EXPECT_EQ(lease.unacknowledged(), 3U);
  }
  EXPECT_EQ(dirty(), (Chunks{1, 3, 16}));
  EXPECT_EQ(bitmap_->lease(0, 100).chunks(), (Chunks{1, 3, 16})) << "and can be taken again";
}

TEST_F(DirtyLeaseTest, AcknowledgedChunksStayClean) {
  mark_chunk(1);
  {
    DirtyLease lease = bitmap_->lease(0, 100);
    lease.acknowledge_all();
    EXPECT_EQ(lease.unacknowledged(), 0U);
  }
  EXPECT_EQ(dirty(), Chunks{});
}

TEST_F(DirtyLeaseTest, AMarkWhileLeasedOutlivesTheAcknowledgement) {
  mark_chunk(3);
  mark_chunk(4);
  {
    DirtyLease lease = bitmap_->lease(0, 100);
    mark_chunk(3);
    EXPECT_EQ(dirty(), (Chunks{3}));
    lease.acknowledge_all();
  }
  EXPECT_EQ(dirty(), (Chunks{3}));
}

TEST_F(DirtyLeaseTest, LeasesMayOverlapInTime) {
  mark_chunk(3);
  mark_chunk(7);
  DirtyLease first = bitmap_->lease(0, 100);
  mark_chunk(3);
  {
    DirtyLease second = bitmap_->lease(0, 100);
    EXPECT_EQ(second.chunks(), (Chunks{3}));
    first.acknowledge_all();
    first = DirtyLease();
    EXPECT_EQ(dirty(), Chunks{}) << "the second lease still holds 3";
  }
  EXPECT_EQ(dirty(), (Chunks{3})) << "the second copy failed";
}

TEST_F(DirtyLeaseTest, AFailedLeaseMarksEvenIfALaterOneSucceeded) {
  mark_chunk(3);
  {
    DirtyLease first = bitmap_->lease(0, 100);
    mark_chunk(3);
    DirtyLease second = bitmap_->lease(0, 100);
    second.acknowledge_all();
  }
  EXPECT_EQ(dirty(), (Chunks{3})) << "more dirt is safe, less is not (I5)";
}

TEST_F(DirtyLeaseTest, MovingMovesTheDuty) {
  mark_chunk(3);
  DirtyLease lease = bitmap_->lease(0, 100);
  {
    DirtyLease other = std::move(lease);
    EXPECT_TRUE(lease.empty());  // NOLINT: the moved-from state is what is tested
    EXPECT_TRUE(lease.chunks().empty());
    EXPECT_EQ(lease.unacknowledged(), 0U);
    lease.acknowledge_all();
    EXPECT_EQ(other.unacknowledged(), 1U);
    lease = std::move(other);
  }
  EXPECT_EQ(dirty(), Chunks{}) << "still leased";
  lease = DirtyLease();
  EXPECT_EQ(dirty(), (Chunks{3}));
}

TEST_F(DirtyLeaseTest, AssigningOverALeaseGivesItsChunksBack) {
  mark_chunk(3);
  DirtyLease lease = bitmap_->lease(0, 100);
  mark_chunk(5);
  lease = bitmap_->lease(0, 100);
  EXPECT_EQ(lease.chunks(), (Chunks{5}));
  EXPECT_EQ(dirty(), (Chunks{3}));
}

TEST_F(DirtyLeaseTest, StartsWhereAskedAndDoesNotWrap) {
  bitmap_->mark_all();
  EXPECT_EQ(bitmap_->lease(14, 100).chunks(), (Chunks{14, 15, 16}));
  EXPECT_TRUE(bitmap_->lease(17, 100).empty());
  EXPECT_TRUE(bitmap_->lease(0, 0).empty());
  EXPECT_EQ(bitmap_->dirty_count(), 17U);
}

TEST_F(DirtyLeaseTest, TakesExactlyTheChosenChunksThatAreDirty) {
  for (const std::uint64_t chunk : {1u, 2u, 3u, 9u}) mark_chunk(chunk);
  const DirtyLease lease = bitmap_->lease_chunks({9, 4, 2, 9, 0});
  EXPECT_EQ(lease.chunks(), (Chunks{2, 9}));
  EXPECT_EQ(dirty(), (Chunks{1, 3}));
}

TEST_F(DirtyLeaseTest, ManyLeasesOfALargeDirtyRange) {
  auto created = DirtyBitmap::create(64 * kGiB, 65536);
  ASSERT_TRUE(created.ok());
  const std::unique_ptr<DirtyBitmap> large = *std::move(created);
  large->mark_all();
  const std::uint64_t total = large->chunk_count();
  std::uint64_t taken = 0;
  while (true) {
    DirtyLease lease = large->lease(0, 10'000);
    if (lease.empty()) break;
    EXPECT_EQ(lease.chunks().front(), taken);
    taken += lease.chunks().size();
    lease.acknowledge_all();
  }
  EXPECT_EQ(taken, total);
  EXPECT_EQ(large->dirty_count(), 0U);
}

TEST_F(DirtyLeaseTest, OutlivingTheBitmapAborts) {
  EXPECT_DEATH(
      {
        mark_chunk(1);
        const DirtyLease lease = bitmap_->lease(0, 1);
        bitmap_.reset();
      },
      "live_leases");
}

}  // namespace
}  // namespace blockmig

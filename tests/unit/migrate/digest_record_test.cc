// SPDX-License-Identifier: Apache-2.0
// The digests beside a job's bitmap in the journal: what a restart may believe of them (I13).
#include <gtest/gtest.h>

#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/migrate/digest_record.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;
constexpr std::uint64_t kGroup = kChunk * ChunkDigests::kGroupChunks;
/// More containers than one checkpoint writes, and a last one that is short.
constexpr std::uint64_t kSize = (kMaxContainersPerChange + 10) * kGroup + 3 * kChunk + 100;
const RegionSetId kSet{"vm1", "job/job-1"};

Digest some_digest(std::uint64_t n) { return {n, ~n}; }

/// One life of a job.
struct Life {
  explicit Life(Journal& in, SimLoop& on)
      : loop(on), journal(in), digests(kSize), record(kSet, digests) {
    auto made = DirtyBitmap::create(kSize, kDefaultGranularityBytes);
    dirty = *std::move(made);
  }
  /// As JobCheckpoint's.
  std::size_t checkpoint() {
    JournalBatch batch;
    run_task(loop, record.add_change(loop, batch));
    EXPECT_TRUE(run_task(loop, journal.commit(batch)).ok());
    std::size_t written = 0;
    for (const DigestChange& change : batch.digests) written += change.put.size();
    return written;
  }
  Status recall() { return run_task(loop, record.recall(loop, journal, *dirty)); }
  void set_one_of_each_group(std::uint64_t salt) {
    for (std::uint64_t group = 0; group < digests.group_count(); ++group) {
      digests.set_digest(group * ChunkDigests::kGroupChunks + 2, some_digest(group + salt));
    }
  }
  std::size_t recalled_of_each_group(std::uint64_t salt) const {
    std::size_t count = 0;
    for (std::uint64_t group = 0; group < digests.group_count(); ++group) {
      const auto found = digests.find(group * ChunkDigests::kGroupChunks + 2);
      if (found == some_digest(group + salt)) ++count;
    }
    return count;
  }

  SimLoop& loop;
  Journal& journal;
  ChunkDigests digests;
  DigestRecord record;
  std::unique_ptr<DirtyBitmap> dirty;
};

class DigestRecordTest : public testing::Test {
 protected:
  Random random_{3};
  SimLoop loop_{random_};
  std::unique_ptr<Journal> journal_ = make_memory_journal(loop_);
};

TEST_F(DigestRecordTest, TheNextLifeKnowsWhatWasRecorded) {
  Life first(*journal_, loop_);
  first.digests.set_digest(5, some_digest(5));
  first.digests.set_digest(6, some_digest(6));
  first.digests.set_zero(6);
  first.digests.invalidate(7 * kChunk, 1);
  const std::uint64_t last = first.digests.chunk_count() - 1;
  first.digests.set_digest(last, some_digest(last));
  EXPECT_EQ(first.checkpoint(), 2U);
  Life second(*journal_, loop_);
  second.digests.invalidate(0, kSize);  // allocated, and not hashed in this life
  ASSERT_TRUE(second.recall().ok());
  EXPECT_EQ(second.digests.find(5), some_digest(5));
  EXPECT_TRUE(second.digests.is_zero(6));
  EXPECT_FALSE(second.digests.find(7).has_value());
  EXPECT_EQ(second.digests.find(last), some_digest(last));
  EXPECT_FALSE(second.digests.find(300).has_value()) << "of a container that is not there";
  EXPECT_EQ(second.checkpoint(), 0U) << "nothing has changed: nothing is written again";
}

TEST_F(DigestRecordTest, WhatIsDirtyIsNotBelieved_I13) {
  Life first(*journal_, loop_);
  for (std::uint64_t chunk = 0; chunk < 8; ++chunk) first.digests.set_digest(chunk, some_digest(1));
  first.checkpoint();
  Life second(*journal_, loop_);
  second.dirty->mark(3 * kChunk + 4096, 512);
  ASSERT_TRUE(second.recall().ok());
  EXPECT_TRUE(second.digests.find(2).has_value());
  EXPECT_FALSE(second.digests.find(3).has_value());
}

TEST_F(DigestRecordTest, WhatWasDirtyAndIsZerosNowReplacesWhatIsRecorded_I13) {
  Life first(*journal_, loop_);
  first.digests.set_digest(0, some_digest(1));
  first.checkpoint();
  Life second(*journal_, loop_);
  second.dirty->mark(0, kChunk);
  ASSERT_TRUE(second.recall().ok());
  second.digests.set_zeros(0, kChunk);  // a hole was copied there
  second.checkpoint();
  Life third(*journal_, loop_);
  ASSERT_TRUE(third.recall().ok());
  EXPECT_TRUE(third.digests.is_zero(0));
}

TEST_F(DigestRecordTest, OnlyWhatHasChangedIsWritten) {
  Life life(*journal_, loop_);
  for (std::uint64_t group = 0; group < 100; ++group) {
    life.digests.set_digest(group * ChunkDigests::kGroupChunks, some_digest(1));
  }
  EXPECT_EQ(life.checkpoint(), 100U);
  EXPECT_EQ(life.checkpoint(), 0U);
  life.digests.set_digest(7, some_digest(2));
  EXPECT_EQ(life.checkpoint(), 1U);
}

TEST_F(DigestRecordTest, ACheckpointWritesSoMuchAtMostAndWhatIsBehindIsNotBelieved_I13) {
  Life first(*journal_, loop_);
  first.set_one_of_each_group(0);
  const std::size_t all = first.digests.group_count();
  EXPECT_EQ(first.checkpoint(), kMaxContainersPerChange);
  EXPECT_EQ(first.checkpoint(), all - kMaxContainersPerChange);
  first.set_one_of_each_group(77);  // all have been copied again
  EXPECT_EQ(first.checkpoint(), kMaxContainersPerChange);
  EXPECT_EQ(first.record.waiting(), all - kMaxContainersPerChange);
  Life second(*journal_, loop_);
  second.digests.invalidate(0, kSize);
  ASSERT_TRUE(second.recall().ok());
  EXPECT_EQ(second.recalled_of_each_group(77), kMaxContainersPerChange);
  EXPECT_EQ(second.recalled_of_each_group(0), 0U) << "a digest of old content";
  EXPECT_EQ(first.checkpoint(), all - kMaxContainersPerChange) << "none waits for ever";
  Life third(*journal_, loop_);
  ASSERT_TRUE(third.recall().ok());
  EXPECT_EQ(third.recalled_of_each_group(77), all);
}

TEST_F(DigestRecordTest, TheyGoWithTheirSet) {
  Life first(*journal_, loop_);
  first.digests.set_digest(0, some_digest(1));
  first.checkpoint();
  ASSERT_TRUE(run_task(loop_, journal_->remove_regions(kSet.disk, kSet.name)).ok());
  EXPECT_TRUE(run_task(loop_, journal_->load_digests(kSet, 0))->empty());
  first.record.begin_anew();
  EXPECT_GT(first.checkpoint(), 0U);
  EXPECT_FALSE(run_task(loop_, journal_->load_digests(kSet, 0))->empty());
}

TEST_F(DigestRecordTest, AContainerBehindTheDisksEndIsRefused) {
  JournalBatch batch;
  DigestContainer container;
  container.index = static_cast<std::uint32_t>(kSize / kGroup);
  container.zeros.set(4);  // chunks 0 to 3 of it are there
  batch.digests.push_back({kSet, {container}, {}});
  ASSERT_TRUE(run_task(loop_, journal_->commit(batch)).ok());
  Life life(*journal_, loop_);
  EXPECT_EQ(life.recall().error().code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace blockmig

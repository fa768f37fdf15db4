// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/mark_shard.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "blockmig/base/random.h"
#include "blockmig/disk/tracking.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSize = 64 * kMiB + 777;
constexpr std::uint32_t kChunk = kDefaultGranularityBytes;

std::unique_ptr<DirtyBitmap> make_bitmap(std::uint32_t granularity = kChunk) {
  auto bitmap = DirtyBitmap::create(kSize, granularity);
  return *std::move(bitmap);
}

class MarkShardTest : public testing::Test {
 protected:
  MarkShardTest() { tracking_.add_shard(shard_); }
  ~MarkShardTest() override { tracking_.remove_shard(shard_); }
  const DirtyBitmap& named() { return *tracking_.find("b"); }

  MarkShard shard_;
  Random random_{1};
  SimLoop loop_{random_};
  DirtyTracking tracking_{loop_};
};

TEST_F(MarkShardTest, NothingIsRecordedWithoutABitmap) {
  shard_.mark(0, 4096);
  EXPECT_FALSE(shard_.pending());
  ASSERT_TRUE(tracking_.add("b", make_bitmap()).ok());
  EXPECT_EQ(named().dirty_count(), 0u);
}

TEST_F(MarkShardTest, EveryQuestionSeesTheMarksOfOtherThreads) {
  ASSERT_TRUE(tracking_.add("b", make_bitmap()).ok());
  auto job = make_bitmap();
  tracking_.attach_job(*job);
  shard_.mark(5 * kChunk + 1, 1);
  EXPECT_TRUE(named().is_dirty(5));
  shard_.mark(7 * kChunk, 4096);
  EXPECT_EQ(job->dirty_count(), 2u);
  shard_.mark(kSize - 1, 1);
  EXPECT_EQ(job->dirty_bytes(), 2 * kChunk + kSize % kChunk);
  shard_.mark(9 * kChunk, 1);
  EXPECT_EQ(job->next_dirty(8), 9u);
  shard_.mark(11 * kChunk, 1);
  EXPECT_TRUE(job->any_dirty(11 * kChunk, 1));
  shard_.mark(13 * kChunk, 1);
  EXPECT_EQ(job->runs(13 * kChunk, kChunk, 1).front().dirty, true);
  shard_.mark(15 * kChunk, 1);
  EXPECT_EQ(job->lease(15, 1).chunks().size(), 1u);
  tracking_.detach_job(job.get());
}

TEST_F(MarkShardTest, AClearedRangeIsCleanButForLaterMarks) {
  auto job = make_bitmap();
  tracking_.attach_job(*job);
  shard_.mark(0, 4096);
  job->clear(0, kSize);
  EXPECT_EQ(job->dirty_count(), 0u);
  shard_.mark(0, 4096);
  EXPECT_EQ(job->dirty_count(), 1u);
  tracking_.detach_job(job.get());
}

TEST_F(MarkShardTest, I17MarksBeforeAttachingAreNotInTheNewBitmap) {
  ASSERT_TRUE(tracking_.add("b", make_bitmap()).ok());
  shard_.mark(0, 4096);
  auto job = make_bitmap();
  tracking_.attach_job(*job);
  EXPECT_EQ(job->dirty_count(), 0u);
  EXPECT_EQ(named().dirty_count(), 1u);
  tracking_.detach_job(job.get());
  shard_.mark(kChunk, 4096);
  EXPECT_EQ(job->dirty_count(), 0u) << "detached";
}

TEST_F(MarkShardTest, AFullLogLosesNothing) {
  ASSERT_TRUE(tracking_.add("b", make_bitmap(4096)).ok());
  ASSERT_TRUE(tracking_.add("coarse", make_bitmap(kMaxGranularityBytes)).ok());
  const std::uint64_t chunks = 3 * MarkShard::kLogRanges + 5;
  for (std::uint64_t i = 0; i < chunks; ++i) shard_.mark(i * 4096, 1);
  EXPECT_EQ(named().dirty_count(), chunks);
  EXPECT_EQ(tracking_.find("coarse")->dirty_count(), chunks * 4096 / kMaxGranularityBytes + 1);
}

TEST_F(MarkShardTest, NoMarkIsLostBetweenThreads) {
  ASSERT_TRUE(tracking_.add("b", make_bitmap()).ok());
  auto job = make_bitmap();
  tracking_.attach_job(*job);
  const std::uint64_t chunks = job->chunk_count();
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> marked = 0;
  std::thread writer([&] {
    for (std::uint64_t i = 0; i < 20 * chunks; ++i) {
      shard_.mark(i % chunks * kChunk, 1);
      marked.store(i + 1);
    }
    stop.store(true);
  });
  std::uint64_t leased = 0;
  while (!stop.load()) {
    DirtyLease lease = job->lease(0, 64);
    leased += lease.chunks().size();
    lease.acknowledge_all();
  }
  writer.join();
  EXPECT_EQ(named().dirty_count(), chunks);
  EXPECT_GE(leased + job->dirty_count(), chunks);
  tracking_.detach_job(job.get());
}

}  // namespace
}  // namespace blockmig

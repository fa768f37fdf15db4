// SPDX-License-Identifier: Apache-2.0
// What a restart finds of a move that had not switched over, by mode: whatever is recorded as clean
// is equal on both sides, and is not copied again (I5, I7).
#include <gtest/gtest.h>

#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/data_at_rest.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::uint64_t kChunk = kDefaultGranularityBytes;

JobOptions slow_move(Mode mode) {
  JobOptions options;
  options.mode = mode;
  options.bwlimit_bytes_per_second = 256 * kKiB;
  options.copy_request_bytes = kChunk;
  options.checkpoint_interval = milliseconds(50);
  options.activity_region_bytes = kChunk;
  return options;
}

/// A folder of which only is asked what stays there.
class StaysAtRest final : public DataAtRest {
 public:
  Task<Status> hash(BlockDevice&, const DirtyBitmap&, CancelSource&) override {
    co_return Status();
  }
  Task<Status> prepare(const DirtyBitmap&, const std::string&, std::uint64_t) override {
    co_return Status();
  }
  Task<Status> publish() override { co_return Error(ErrorCode::kPrecondition, "not asked for"); }
  std::uint64_t generation() const override { return 1; }
  const ChunkDigests* digests() const override { return nullptr; }
  std::unique_ptr<BlockDevice> take_base() override { return nullptr; }
  Task<Status> withdraw() override { co_return Status(); }
  Task<void> discard() override { co_return; }
  Task<Status> complete(BlockDevice&, const DirtyBitmap&) override { co_return Status(); }
};

class FolderOpener final : public TestOpener {
 public:
  using TestOpener::TestOpener;
  DataAtRest* data_at_rest() override { return &at_rest_; }

 private:
  StaysAtRest at_rest_;
};

/// Two lives of a daemon, and a move that the first does not end.
struct TwoLives : Rig {
  ~TwoLives() { run_task(loop, next.stop()); }

  void begin(const JobOptions& options) {
    asked = options;
    const auto begun =
        board.start(disk, std::make_unique<FolderOpener>(target), options, "as asked");
    EXPECT_TRUE(begun.ok());
    id = *begun;
    advance(seconds(1));
  }
  JobStatus status() { return *board.status(id); }
  void write_chunk(std::uint64_t chunk) {
    EXPECT_TRUE(write(chunk * kChunk, std::vector<std::byte>(4096, std::byte{9})).ok());
  }
  bool same(std::uint64_t chunk) const {
    std::vector<std::byte> a(kChunk);
    std::vector<std::byte> b(kChunk);
    source->peek_durable(chunk * kChunk, a);
    target->peek_durable(chunk * kChunk, b);
    return a == b;
  }
  void end_first_life() {
    run_task(loop, board.stop(JobBoard::AtStop::kSuspend));
    run_task(loop, board.leave_disks());
    target->reopen();
    auto left = run_task(loop, recover(*journal, disk, id, loop));
    EXPECT_TRUE(left.ok());
    found = *std::move(left);
  }
  /// What is recorded as clean is so on both sides, durably; how many chunks are.
  std::uint64_t judge_clean() const {
    std::uint64_t clean = 0;
    for (std::uint64_t chunk = 0; chunk < found.dirty->chunk_count() - 1; ++chunk) {
      if (found.dirty->is_dirty(chunk)) continue;
      EXPECT_TRUE(same(chunk)) << "chunk " << chunk;
      ++clean;
    }
    return clean;
  }
  void begin_second_life(std::uint64_t bytes_per_second) {
    asked.bwlimit_bytes_per_second = bytes_per_second;
    const auto jobs = run_task(loop, journal->load_jobs());
    const auto gone_on = next.resume_recorded(disk, std::make_unique<FolderOpener>(target), asked,
                                              jobs->front(), found);
    ASSERT_TRUE(gone_on.ok());
  }

  JobOptions asked;
  std::string id;
  RecoveredTracking found;
  JobBoard next{loop, *journal};
};

TEST(Resume, OfAGenerationWhatWasCopiedIsNotCopiedAgain_I5) {
  TwoLives lives;
  lives.begin(slow_move(Mode::kSnapshot));
  ASSERT_GT(lives.status().checkpoints, 0u);
  ASSERT_EQ(lives.status().generations_begun, 1u);
  ASSERT_TRUE(lives.same(0)) << "copied first";
  constexpr std::uint64_t kNotCopiedYet = 40;
  lives.write_chunk(0);
  lives.write_chunk(kNotCopiedYet);
  lives.advance(seconds(1));
  EXPECT_EQ(lives.status().generations_complete, 0u);
  lives.end_first_life();
  ASSERT_FALSE(lives.found.empty());
  EXPECT_GE(lives.judge_clean(), 4u);
  EXPECT_TRUE(lives.found.dirty->is_dirty(0));
  EXPECT_TRUE(lives.found.dirty->is_dirty(kNotCopiedYet))
      << "the target has what the disk held at the instant, and the disk has not";
  const std::uint64_t difference = lives.found.dirty->dirty_bytes();
  lives.begin_second_life(0);
  const JobStatus ended = *run_task(lives.loop, lives.next.wait(lives.id));
  ASSERT_EQ(ended.state, JobState::kDone) << ended.error->message();
  EXPECT_TRUE(ended.resumed);
  EXPECT_EQ(ended.bytes_total, difference);
  EXPECT_LE(ended.bytes_copied, difference);
  EXPECT_TRUE(lives.equal());
}

TEST(Resume, WhatHasLeftTheFolderDoesNotStayThereAfterARestart_I5) {
  TwoLives lives;
  lives.disk.read_heat().record(0, 2 * kMiB, lives.loop.now());  // the working set
  JobOptions options = slow_move(Mode::kShared);
  options.on_stall = OnStall::kThrottle;
  lives.begin(options);
  const JobStatus first = lives.status();
  ASSERT_FALSE(first.error.has_value()) << first.error->message();
  ASSERT_GT(first.checkpoints, 0u);
  ASSERT_EQ(first.bytes_total, 2 * kMiB);
  ASSERT_EQ(first.bytes_at_rest, Rig::kSize - 2 * kMiB);
  lives.end_first_life();
  ASSERT_FALSE(lives.found.empty());
  const std::uint64_t kept = lives.judge_clean() * kChunk;
  EXPECT_GE(kept, 2 * kChunk);
  lives.begin_second_life(64 * kKiB);
  lives.advance(milliseconds(10));
  const JobStatus second = *lives.next.status(lives.id);
  EXPECT_TRUE(second.resumed);
  EXPECT_EQ(second.bytes_total + second.bytes_at_rest, Rig::kSize - kept);
}

TEST(Resume, APointInTimeIsBegunAnewAndRecordsNothing) {
  TwoLives lives;
  JobOptions options = slow_move(Mode::kSnapshot);
  options.point_in_time = true;
  lives.begin(options);
  EXPECT_GT(lives.status().bytes_copied, 0u);
  lives.end_first_life();
  EXPECT_TRUE(lives.found.empty());
  EXPECT_TRUE(run_task(lives.loop, lives.journal->load_sets("vm1"))->empty());
}

Task<void> write_slowly(Disk& disk) {
  const std::vector<std::byte> content(4096, std::byte{9});
  const ConstBytes from(content);
  const Status written = co_await disk.write(0, from, WriteFlags{});
  EXPECT_TRUE(written.ok());
}

// Why it has nothing to go on with: before its switchover only a test write reaches the target.
TEST(Resume, PostcopyCopiesNothingBeforeItsSwitchoverAndRecordsNothing) {
  TwoLives lives;
  lives.source->plan().slow_ppm = 1'000'000;
  lives.source->plan().slow_writes_only = true;
  lives.source->plan().slow_delay = seconds(20);
  TaskScope guest;
  guest.spawn(write_slowly(lives.disk));  // that no fence outlasts
  JobOptions options = slow_move(Mode::kPostcopy);
  options.bwlimit_bytes_per_second = 0;
  lives.begin(options);
  lives.advance(seconds(5));
  EXPECT_GT(lives.status().switchovers_postponed, 1u);
  EXPECT_EQ(lives.status().bytes_copied, 0u);
  EXPECT_EQ(lives.target->writes_done(), 1u) << "the test write";
  lives.end_first_life();
  EXPECT_TRUE(lives.found.empty());
  lives.advance(seconds(20));
}

}  // namespace
}  // namespace blockmig

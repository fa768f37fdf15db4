// SPDX-License-Identifier: Apache-2.0
// A daemon that ends in order leaves its moves to the next one: the target and what is recorded
// stay, and writes keep the record true until the disk itself ends (I5, I7).
#include <gtest/gtest.h>

#include "blockmig/migrate/checkpoint.h"
#include "tests/unit/migrate/breakable_journal.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kRegion = 64 * kKiB;

JobOptions slow_move(OnRestart on_restart) {
  JobOptions options;
  options.mode = Mode::kDbt;
  options.bwlimit_bytes_per_second = 256 * kKiB;
  options.copy_request_bytes = 64 * kKiB;
  options.checkpoint_interval = milliseconds(50);
  options.activity_region_bytes = kRegion;
  options.on_restart = on_restart;
  return options;
}

struct SuspendRig : Rig {
  explicit SuspendRig(MakeJournal make = &make_memory_journal) : Rig(kSize, make) {}

  std::string begin(OnRestart on_restart) {
    auto opener = std::make_unique<TestOpener>(target, &discarded);
    auto id = board.start(disk, std::move(opener), slow_move(on_restart), "as asked");
    EXPECT_TRUE(id.ok());
    advance(milliseconds(1000));
    EXPECT_GT(board.status(*id)->checkpoints, 0U);
    return *id;
  }
  void stop() { run_task(loop, board.stop(JobBoard::AtStop::kSuspend)); }
  std::string recorded_state() {
    const auto jobs = run_task(loop, journal->load_jobs());
    return jobs.ok() && jobs->size() == 1 ? jobs->front().state : "not one job";
  }
  std::size_t recorded_sets() { return run_task(loop, journal->load_sets("vm1"))->size(); }
  bool write_region(std::uint64_t region) {
    return write(region * kRegion, std::vector<std::byte>(4096, std::byte{9})).ok();
  }
  /// What the next daemon finds.
  RecoveredTracking next_life(const std::string& id) {
    auto found = run_task(loop, recover(*journal, disk, id, loop));
    EXPECT_TRUE(found.ok());
    return *std::move(found);
  }

  bool discarded = false;
};

TEST(Suspend, LeavesTheTargetAndTheRecord_I7) {
  SuspendRig rig;
  const std::string id = rig.begin(OnRestart::kResume);
  rig.stop();
  const JobStatus ended = *rig.board.status(id);
  EXPECT_TRUE(ended.suspended);
  EXPECT_FALSE(rig.discarded);
  EXPECT_EQ(rig.recorded_state(), "running");
  EXPECT_EQ(rig.recorded_sets(), 2U);
}

TEST(Suspend, WritesAfterItAreInTheRecord_I5) {
  SuspendRig rig;
  const std::string id = rig.begin(OnRestart::kResume);
  rig.stop();
  ASSERT_TRUE(rig.write_region(0)) << "copied first, and idle since";
  run_task(rig.loop, rig.board.leave_disks());
  RecoveredTracking found = rig.next_life(id);
  ASSERT_FALSE(found.empty());
  EXPECT_TRUE(found.dirty->any_dirty(0, 4096));
  EXPECT_LT(found.dirty->dirty_bytes(), rig.source->info().size_bytes);
  run_task(rig.loop, discard(rig.disk, std::move(found)));
}

TEST(Suspend, NotOfAJobThatARestartWouldAbort) {
  SuspendRig rig;
  auto opener = std::make_unique<TestOpener>(rig.target, &rig.discarded);
  const auto id =
      rig.board.start(rig.disk, std::move(opener), slow_move(OnRestart::kAbort), "as asked");
  ASSERT_TRUE(id.ok());
  rig.advance(milliseconds(300));
  rig.stop();
  EXPECT_FALSE(rig.board.status(*id)->suspended);
  EXPECT_TRUE(rig.discarded);
  EXPECT_EQ(rig.recorded_state(), "aborted");
}

TEST(Suspend, WhatHasDecidedIsDone) {
  SuspendRig rig;
  JobOptions options = slow_move(OnRestart::kResume);
  options.bwlimit_bytes_per_second = 0;
  auto opener = std::make_unique<TestOpener>(rig.target, &rig.discarded);
  const auto id = rig.board.start(rig.disk, std::move(opener), options, "as asked");
  ASSERT_TRUE(id.ok());
  EXPECT_EQ(rig.wait(*id).state, JobState::kDone);
  rig.stop();
  EXPECT_FALSE(rig.board.status(*id)->suspended);
  EXPECT_EQ(rig.recorded_state(), "done");
}

/// A journal of which nothing can be removed any more either.
std::unique_ptr<Journal> make_lost(EventLoop& loop) {
  return std::make_unique<BreakableJournal>(loop);
}

TEST(Abort, RecordThatCannotBeMadeVoidIsKeptTrue_I5) {
  SuspendRig rig(&make_lost);
  auto& journal = static_cast<BreakableJournal&>(*rig.journal);
  const std::string id = rig.begin(OnRestart::kResume);
  journal.distrust_fails = true;
  journal.break_down();
  EXPECT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
  EXPECT_EQ(rig.board.recorded_targets("vm1"), std::vector<std::string>{"test:target"});
  EXPECT_FALSE(rig.write_region(0)) << "a write that a restart would not know of (I5 before I8)";
  // The journal can be changed again: nothing of it is believed, and writes go on.
  journal.distrust_fails = false;
  EXPECT_TRUE(rig.write_region(0));
}

/// A daemon that has found what the one before it left, and has not gone on with it yet.
struct NextLife : SuspendRig {
  NextLife() {
    const std::string id = begin(OnRestart::kResume);
    stop();
    run_task(loop, board.leave_disks());
    found = next_life(id);
  }
  ~NextLife() { run_task(loop, next.stop()); }
  Result<std::string> start_another() {
    auto opener = std::make_unique<TestOpener>(target);
    return next.start(disk, std::move(opener), slow_move(OnRestart::kResume), "as asked");
  }

  RecoveredTracking found;
  JobBoard next{loop, *journal};
};

TEST(Resume, AnotherMoveIsRefusedUntilItIsTakenUpOrGivenUp_I5) {
  NextLife life;
  ASSERT_FALSE(life.found.empty());
  const auto refused = life.start_another();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kBusy);
  EXPECT_EQ(life.disk.tracking().job(), life.found.dirty.get());
  run_task(life.loop, discard(life.disk, std::move(life.found)));
  EXPECT_TRUE(life.start_another().ok());
}

TEST(Resume, WhatIsGivenUpTakesOffItsOwnTrackingOnly_I5) {
  NextLife life;
  DirtyTracking& tracking = life.disk.tracking();
  tracking.detach_job(life.found.dirty.get());
  tracking.set_log(DirtyTracking::Recorded::kJob, nullptr);
  ASSERT_TRUE(life.start_another().ok());
  life.advance(milliseconds(100));
  const DirtyBitmap* const another = tracking.job();
  const ActivityLog* const log = tracking.log(DirtyTracking::Recorded::kJob);
  ASSERT_NE(another, nullptr);
  ASSERT_NE(log, nullptr);
  run_task(life.loop, discard(life.disk, std::move(life.found)));
  EXPECT_EQ(tracking.job(), another);
  EXPECT_EQ(tracking.log(DirtyTracking::Recorded::kJob), log);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/target_trouble.h"

#include <gtest/gtest.h>

#include "blockmig/migrate/unflushed_writes.h"
#include "rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(TroublePolicy, Table) {
  const struct {
    OnTargetError action;
    ErrorCode code;
    Duration lasted;
    TroubleStep step;
  } rows[] = {
      {OnTargetError::kRetry, ErrorCode::kIo, seconds(0), TroubleStep::kRetry},
      {OnTargetError::kRetry, ErrorCode::kDisconnected, seconds(59), TroubleStep::kRetry},
      {OnTargetError::kRetry, ErrorCode::kIo, seconds(60), TroubleStep::kPause},
      {OnTargetError::kRetry, ErrorCode::kNoSpace, seconds(0), TroubleStep::kPause},
      {OnTargetError::kRetry, ErrorCode::kTimedOut, seconds(0), TroubleStep::kPause},
      {OnTargetError::kPause, ErrorCode::kIo, seconds(0), TroubleStep::kPause},
      {OnTargetError::kFail, ErrorCode::kIo, seconds(0), TroubleStep::kFail},
      {OnTargetError::kFail, ErrorCode::kNoSpace, seconds(0), TroubleStep::kFail},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(next_step(row.action, row.code, row.lasted, seconds(60)), row.step)
        << to_string(row.action) << " " << to_string(row.code);
  }
  EXPECT_LT(retry_delay(0, false), milliseconds(100));
  EXPECT_EQ(retry_delay(100, false), seconds(1));
  EXPECT_EQ(retry_delay(100, true), seconds(10));
}

class Unflushed : public testing::Test {
 protected:
  std::unique_ptr<DirtyBitmap> dirty_ = *DirtyBitmap::create(1 * kMiB, 4096);
  std::unique_ptr<UnflushedWrites> writes_ = *UnflushedWrites::create(1 * kMiB, 4096);
};

TEST_F(Unflushed, AFlushThatWorkedCoversWhatWasAnsweredBeforeIt_I11) {
  writes_->taken(0, 4096);
  const std::uint64_t flush = writes_->flush_begins();
  writes_->taken(8192, 4096);  // answered while the flush is under way
  writes_->flush_worked(flush);
  EXPECT_EQ(writes_->lose_into(*dirty_), 4096u);
  EXPECT_FALSE(dirty_->is_dirty(0));
  EXPECT_TRUE(dirty_->is_dirty(2));
  EXPECT_EQ(writes_->bytes(), 0u);
}

TEST_F(Unflushed, WhatAFailedFlushHadToCoverIsStillNotDurable_I11) {
  writes_->taken(0, 4096);
  writes_->flush_ended(writes_->flush_begins());
  EXPECT_EQ(writes_->bytes(), 4096u);
  const std::uint64_t next = writes_->flush_begins();
  EXPECT_NE(next, 0u);
  writes_->lose_into(*dirty_);
  EXPECT_TRUE(dirty_->is_dirty(0));
}

TEST_F(Unflushed, AFlushFromBeforeALossSpeaksForNothingWrittenSince_I11) {
  writes_->taken(0, 4096);
  const std::uint64_t before = writes_->flush_begins();
  writes_->lose_into(*dirty_);
  writes_->taken(4096, 4096);
  const std::uint64_t after = writes_->flush_begins();
  writes_->flush_worked(before);
  EXPECT_EQ(writes_->bytes(), 4096u);
  writes_->flush_worked(after);
  EXPECT_EQ(writes_->bytes(), 0u);
}

TEST_F(Unflushed, OfTwoFlushesAtOnceTheSecondClearsNothing) {
  writes_->taken(0, 4096);
  const std::uint64_t first = writes_->flush_begins();
  writes_->taken(4096, 4096);
  EXPECT_EQ(writes_->flush_begins(), 0u);
  writes_->flush_worked(0);
  EXPECT_EQ(writes_->bytes(), 8192u);
  writes_->flush_worked(first);
  EXPECT_EQ(writes_->bytes(), 4096u);
}

/// Every mode that copies before it switches.
class Trouble : public testing::TestWithParam<Mode> {
 protected:
  JobOptions options() const {
    JobOptions options;
    options.mode = GetParam();
    options.bwlimit_bytes_per_second = 8 * kMiB;
    options.max_downtime = seconds(2);
    options.retry_for = seconds(1);
    return options;
  }
  void wait_for_pause(const std::string& id) {
    for (int i = 0; i < 1000 && rig_.board.status(id)->state != JobState::kPaused; ++i) {
      rig_.advance(milliseconds(20));
    }
  }
  void expect_moved(const std::string& id) {
    const JobStatus status = rig_.wait(id);
    EXPECT_EQ(status.state, JobState::kDone) << (status.error ? status.error->message() : "");
    EXPECT_TRUE(status.paused_because.empty());
    std::vector<std::byte> source(Rig::kSize);
    std::vector<std::byte> durable(Rig::kSize);
    rig_.source->peek(0, source);
    rig_.target->peek_durable(0, durable);
    EXPECT_EQ(source, durable);
  }
  Rig rig_;
};

TEST_P(Trouble, AFullTargetPausesTheJobWhichGoesOnByItselfWhenThereIsRoom) {
  rig_.target->plan().space_bytes = kMiB;
  const std::string id = rig_.start(options());
  wait_for_pause(id);
  const JobStatus held = *rig_.board.status(id);
  ASSERT_EQ(held.state, JobState::kPaused);
  ASSERT_TRUE(held.error.has_value());
  EXPECT_EQ(held.error->code(), ErrorCode::kNoSpace);
  EXPECT_EQ(held.paused_because, held.error->message());
  EXPECT_TRUE(rig_.write(8192, std::vector<std::byte>(4096, std::byte{3})).ok());
  rig_.advance(seconds(30));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  rig_.target->plan().space_bytes = UINT64_MAX;
  expect_moved(id);
}

TEST_P(Trouble, ABrokenConnectionIsTriedAgainAndWhatItLostIsCopiedAgain_I11) {
  const std::string id = rig_.start(options());
  rig_.advance(milliseconds(200));
  const std::uint64_t copied = rig_.board.status(id)->bytes_copied;
  EXPECT_GT(copied, 0u);
  rig_.target->disconnect();
  rig_.advance(milliseconds(500));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kRunning);
  EXPECT_GE(rig_.board.status(id)->target_losses, 1u);
  EXPECT_TRUE(rig_.write(0, std::vector<std::byte>(4096, std::byte{3})).ok());
  rig_.advance(seconds(3));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kPaused) << "longer than --retry-for";
  rig_.target->reconnect();
  expect_moved(id);
}

TEST_P(Trouble, AFailedFlushIsNeverBelievedToHaveWorkedLater_I11) {
  JobOptions wanted = options();
  const std::string id = rig_.start(wanted);
  rig_.advance(milliseconds(100));
  rig_.target->plan().flush_error_ppm = 1'000'000;
  wait_for_pause(id);
  ASSERT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  EXPECT_EQ(rig_.disk.epoch(), 1u) << "no switchover to a target in trouble";
  rig_.target->plan().flush_error_ppm = 0;
  expect_moved(id);
}

TEST_P(Trouble, APausingJobWaitsAtOnceAndResumeTriesAtOnce) {
  JobOptions wanted = options();
  wanted.on_target_error = OnTargetError::kPause;
  rig_.target->plan().write_error_ppm = 1'000'000;
  const std::string id = rig_.start(wanted);
  wait_for_pause(id);
  ASSERT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  rig_.advance(std::chrono::minutes(5));
  const std::uint64_t errors = rig_.board.status(id)->target_errors;
  ASSERT_TRUE(rig_.board.resume(id).ok());
  rig_.advance(milliseconds(100));
  EXPECT_GT(rig_.board.status(id)->target_errors, errors);
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  rig_.target->plan().write_error_ppm = 0;
  ASSERT_TRUE(rig_.board.resume(id).ok());
  expect_moved(id);
}

TEST_P(Trouble, AnOperatorsPauseOutlivesTheTrouble) {
  rig_.target->plan().space_bytes = kMiB;
  const std::string id = rig_.start(options());
  wait_for_pause(id);
  ASSERT_TRUE(rig_.board.pause(id).ok());
  rig_.target->plan().space_bytes = UINT64_MAX;
  rig_.advance(std::chrono::minutes(1));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  ASSERT_TRUE(rig_.board.resume(id).ok());
  expect_moved(id);
}

TEST_P(Trouble, AHeldJobAbortsAtOnce_I8) {
  rig_.target->plan().space_bytes = kMiB;
  const std::string id = rig_.start(options());
  wait_for_pause(id);
  ASSERT_TRUE(rig_.board.abort(id).ok());
  EXPECT_EQ(rig_.wait(id).state, JobState::kAborted);
  EXPECT_EQ(rig_.disk.store_uri(), "test:source");
}

TEST_P(Trouble, ASilentTargetPausesTheJobAndItsLateWritesHurtNothing_I9) {
  JobOptions wanted = options();
  wanted.target_timeout = milliseconds(300);
  const std::string id = rig_.start(wanted);
  rig_.advance(milliseconds(100));
  rig_.target->stall();
  wait_for_pause(id);
  ASSERT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  ASSERT_EQ(rig_.board.status(id)->error->code(), ErrorCode::kTimedOut);
  EXPECT_TRUE(rig_.write(0, std::vector<std::byte>(kMiB, std::byte{9})).ok());
  rig_.target->unstall();
  expect_moved(id);
}

INSTANTIATE_TEST_SUITE_P(Modes, Trouble,
                         testing::Values(Mode::kCold, Mode::kDbt, Mode::kMirror, Mode::kSnapshot,
                                         Mode::kAuto, Mode::kHybrid),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

TEST(PointInTime, WhatTheTargetLostIsALaterInstantAndNotAMixture_I11) {
  Rig rig;
  JobOptions options;
  options.mode = Mode::kSnapshot;
  options.point_in_time = true;
  options.bwlimit_bytes_per_second = 8 * kMiB;
  const std::string id = rig.start(options);
  rig.advance(milliseconds(200));
  rig.target->disconnect();
  ASSERT_TRUE(rig.write(0, std::vector<std::byte>(2 * kMiB, std::byte{5})).ok());
  rig.target->reconnect();
  const JobStatus status = rig.wait(id);
  ASSERT_EQ(status.state, JobState::kDone) << status.error->message();
  EXPECT_GE(status.generations_begun, 2u);
  std::vector<std::byte> source(Rig::kSize);
  std::vector<std::byte> durable(Rig::kSize);
  rig.source->peek(0, source);
  rig.target->peek_durable(0, durable);
  EXPECT_EQ(source, durable);
}

/// Not to be opened for a while.
class AwayOpener final : public TargetOpener {
 public:
  AwayOpener(std::shared_ptr<FaultDevice> device, ErrorCode why, unsigned times)
      : device_(std::move(device)), why_(why), times_(times) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    if (times_ > 0) {
      --times_;
      co_return Error(why_, "target test:away is away");
    }
    std::unique_ptr<BlockDevice> opened = std::make_unique<SharedDevice>(device_);
    co_return opened;
  }
  Task<void> discard() override { co_return; }

 private:
  std::shared_ptr<FaultDevice> device_;
  ErrorCode why_;
  unsigned times_;
  std::string uri_ = "test:away";
};

/// Takes its time.
class SlowOpener final : public TargetOpener {
 public:
  SlowOpener(EventLoop& loop, bool& given_up) : loop_(loop), given_up_(given_up) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    const Duration wait = seconds(10);
    co_await sleep_for(loop_, wait);
    co_return Error(ErrorCode::kCancelled, "given up");
  }
  void give_up() override { given_up_ = true; }
  Task<void> discard() override { co_return; }

 private:
  EventLoop& loop_;
  bool& given_up_;
  std::string uri_ = "test:slow";
};

TEST(AwayTarget, OfAnAbortedJobIsTold_I9) {
  Rig rig;
  bool given_up = false;
  JobOptions options;
  options.mode = Mode::kDbt;
  auto opener = std::make_unique<SlowOpener>(rig.loop, given_up);
  const std::string id = *rig.board.start(rig.disk, std::move(opener), options);
  rig.advance(seconds(1));
  EXPECT_FALSE(given_up);
  EXPECT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
  EXPECT_TRUE(given_up);
}

/// A job that a restart goes on with, or (`first`) one that begins.
std::string start_away(Rig& rig, ErrorCode why, unsigned times, JobOptions options = {},
                       bool first = false) {
  auto opener = std::make_unique<AwayOpener>(rig.target, why, times);
  options.mode = Mode::kDbt;
  if (first) return *rig.board.start(rig.disk, std::move(opener), options);
  JobRecord record;
  record.id = "job-7";
  record.disk = "vm1";
  record.attempt = 1;
  RecoveredTracking nothing;
  return *rig.board.resume_recorded(rig.disk, std::move(opener), options, record, nothing);
}

TEST(AwayTarget, IsWaitedForByAJobThatGoesOn) {
  for (const ErrorCode why : {ErrorCode::kDisconnected, ErrorCode::kNotFound, ErrorCode::kBusy}) {
    Rig rig;
    const JobStatus job = rig.wait(start_away(rig, why, 20));
    EXPECT_EQ(job.state, JobState::kDone) << to_string(why);
    EXPECT_FALSE(job.error);
    EXPECT_TRUE(rig.equal());
  }
}

TEST(AwayTarget, AfterAWhileTheJobPausesWithTheReasonAndGoesOnByItself) {
  Rig rig;
  JobOptions options;
  options.retry_for = seconds(2);
  const std::string id = start_away(rig, ErrorCode::kNotFound, 8, options);
  rig.advance(seconds(1));
  EXPECT_EQ(rig.board.status(id)->state, JobState::kRunning);
  ASSERT_TRUE(rig.board.status(id)->error);
  rig.advance(seconds(3));
  const JobStatus held = *rig.board.status(id);
  EXPECT_EQ(held.state, JobState::kPaused);
  EXPECT_EQ(held.phase, Phase::kPreparing);
  EXPECT_NE(held.paused_because.find("is away"), std::string::npos);
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

TEST(AwayTarget, CanBeAbortedAndAskedForAtOnce) {
  Rig rig;
  JobOptions options;
  options.on_target_error = OnTargetError::kPause;
  const std::string id = start_away(rig, ErrorCode::kNotFound, 1000, options);
  rig.advance(seconds(100));
  EXPECT_EQ(rig.board.status(id)->state, JobState::kPaused);
  ASSERT_TRUE(rig.board.abort(id).ok());
  const TimePoint begun = rig.loop.now();
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
  EXPECT_LT(rig.loop.now() - begun, milliseconds(10));
}

TEST(AwayTarget, WhatLastsEndsTheJobAndSoDoesAnyErrorAtAFirstStart) {
  {
    Rig rig;
    const JobStatus job = rig.wait(start_away(rig, ErrorCode::kPrecondition, 1));
    EXPECT_EQ(job.state, JobState::kFailed);
  }
  {
    Rig rig;
    JobOptions options;
    options.on_target_error = OnTargetError::kFail;
    const JobStatus job = rig.wait(start_away(rig, ErrorCode::kNotFound, 1, options));
    EXPECT_EQ(job.state, JobState::kFailed);
  }
  Rig rig;
  const JobStatus job = rig.wait(start_away(rig, ErrorCode::kNotFound, 1, {}, true));
  EXPECT_EQ(job.state, JobState::kFailed);
}

}  // namespace
}  // namespace blockmig

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

}  // namespace
}  // namespace blockmig

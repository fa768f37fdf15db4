// SPDX-License-Identifier: Apache-2.0
// Mode return: what is recorded for it, what it copies, and when it refuses.
#include "blockmig/migrate/return_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

class RecordingOpener final : public TargetOpener {
 public:
  RecordingOpener(std::shared_ptr<FaultDevice> device, BitmapKeeper& keeper)
      : inner_(std::move(device)), keeper_(keeper) {}
  const std::string& uri() const override { return inner_.uri(); }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t size_bytes) override {
    return inner_.open(size_bytes);
  }
  Task<void> discard() override { return inner_.discard(); }
  BitmapKeeper* bitmaps() override { return &keeper_; }

 private:
  TestOpener inner_;
  BitmapKeeper& keeper_;
};

class ReturnRecord : public testing::Test {
 protected:
  ReturnRecord() : keeper_(rig_.loop, *rig_.journal, rig_.disk, std::chrono::seconds(1)) {}
  ~ReturnRecord() override { run_task(rig_.loop, keeper_.abandon()); }

  JobStatus move(std::shared_ptr<FaultDevice> target, Mode mode, bool keep_record = true) {
    JobOptions options;
    options.mode = mode;
    options.keep_record = keep_record;
    options.on_target_error = OnTargetError::kFail;
    target->reopen();
    target->mutable_info().zero_initialised = false;
    const auto id =
        rig_.board.start(rig_.disk, std::make_unique<RecordingOpener>(target, keeper_), options);
    return rig_.wait(*id);
  }
  std::size_t records() const {
    std::size_t count = 0;
    for (const BitmapFacts& facts : keeper_.bitmaps()) count += is_return_record(facts.name);
    return count;
  }

  Rig rig_;
  BitmapKeeper keeper_;
};

TEST_F(ReturnRecord, OnlyWhatHasChangedTravelsBack) {
  ASSERT_EQ(move(rig_.target, Mode::kMirror).state, JobState::kDone);
  ASSERT_TRUE(rig_.write(3 * 65536 + 5, std::vector<std::byte>(100, std::byte{0xEE})).ok());
  ASSERT_TRUE(rig_.write(Rig::kSize - 9, std::vector<std::byte>(9, std::byte{0xEF})).ok());
  ASSERT_FALSE(rig_.equal());
  const JobStatus back = move(rig_.source, Mode::kReturn, false);
  ASSERT_EQ(back.state, JobState::kDone) << back.error->message();
  EXPECT_EQ(back.bytes_total, 65536 + Rig::kSize % 65536);
  EXPECT_EQ(back.bytes_copied, back.bytes_total);
  EXPECT_TRUE(rig_.equal());
  EXPECT_EQ(back.source_digest, back.target_digest);
  EXPECT_FALSE(back.source_digest.empty());
  EXPECT_EQ(rig_.disk.store_uri(), "test:source");
  EXPECT_EQ(records(), 0u);  // not asked for again
}

TEST_F(ReturnRecord, GoesThereAndBackAgain) {
  ASSERT_EQ(move(rig_.target, Mode::kDbt).state, JobState::kDone);
  for (const auto& store : {rig_.source, rig_.target, rig_.source}) {
    ASSERT_TRUE(rig_.write(65536, std::vector<std::byte>(512, std::byte{0xAB})).ok());
    const JobStatus back = move(store, Mode::kReturn);
    ASSERT_EQ(back.state, JobState::kDone) << back.error->message();
    EXPECT_EQ(back.bytes_copied, 65536u);
    EXPECT_TRUE(rig_.equal());
    EXPECT_EQ(records(), 1u);
  }
}

TEST_F(ReturnRecord, WhatWasNotRecordedIsRefused) {
  ASSERT_EQ(move(rig_.target, Mode::kMirror, false).state, JobState::kDone);
  EXPECT_EQ(records(), 0u);
  const JobStatus back = move(rig_.source, Mode::kReturn);
  ASSERT_EQ(back.state, JobState::kFailed);
  EXPECT_EQ(back.error->code(), ErrorCode::kPrecondition);
  EXPECT_THAT(back.error->message(), HasSubstr("--keep-record"));
  EXPECT_EQ(rig_.disk.store_uri(), "test:target");
  EXPECT_FALSE(check_way_back(nullptr, "vm1", 2).ok());
}

TEST_F(ReturnRecord, RecordGoesWhenTheDiskMovesOn) {
  ASSERT_EQ(move(rig_.target, Mode::kMirror).state, JobState::kDone);
  ASSERT_EQ(records(), 1u);
  const auto third = std::make_shared<FaultDevice>(rig_.loop, rig_.random, "third", Rig::kSize);
  ASSERT_EQ(move(third, Mode::kMirror, false).state, JobState::kDone);
  EXPECT_EQ(records(), 0u);
  EXPECT_EQ(move(rig_.source, Mode::kReturn).state, JobState::kFailed);
}

TEST_F(ReturnRecord, MoveThatFailsLeavesTheWayBackAsItWas) {
  ASSERT_EQ(move(rig_.target, Mode::kMirror).state, JobState::kDone);
  ASSERT_TRUE(rig_.write(65536, std::vector<std::byte>(512, std::byte{0xAB})).ok());
  rig_.source->plan().write_error_ppm = 1'000'000;
  ASSERT_EQ(move(rig_.source, Mode::kReturn).state, JobState::kFailed);
  rig_.source->plan().write_error_ppm = 0;
  rig_.advance(std::chrono::seconds(1));
  EXPECT_EQ(records(), 1u);
  const JobStatus back = move(rig_.source, Mode::kReturn);
  ASSERT_EQ(back.state, JobState::kDone) << back.error->message();
  EXPECT_EQ(back.bytes_copied, 65536u);
  EXPECT_TRUE(rig_.equal());
}

/// A disk that fetches from a base, and shall go on elsewhere.
class ReturnToALayer : public HydratingRig {
 protected:
  static JobOptions move() {
    JobOptions move;
    move.mode = Mode::kDbt;
    move.keep_record = true;
    return move;
  }
  std::shared_ptr<FaultDevice> third_ = std::make_shared<FaultDevice>(loop, random, "third", kSize);
};

TEST_F(ReturnToALayer, IsRefusedAtTheStart) {
  options.keep_reads = false;
  open(false);
  Disk disk(loop, "vm1", std::move(device), "test:new", 2);
  BitmapKeeper keeper(loop, *journal, disk, std::chrono::seconds(1));
  JobBoard board(loop, *journal);
  const auto refused = board.start(disk, std::make_unique<RecordingOpener>(third_, keeper), move());
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("settle"));
  run_task(loop, board.stop());
  EXPECT_TRUE(run_task(loop, disk.close()).ok());
}

TEST_F(ReturnToALayer, OneThatGoesOnRecordsNothing_I4) {
  options.keep_reads = false;
  open(false);
  Disk disk(loop, "vm1", std::move(device), "test:new", 2);
  BitmapKeeper keeper(loop, *journal, disk, std::chrono::seconds(1));
  JobBoard board(loop, *journal);
  JobRecord left;
  left.id = "job-7";
  left.disk = "vm1";
  left.attempt = 1;
  RecoveredTracking nothing;
  const auto id = board.resume_recorded(disk, std::make_unique<RecordingOpener>(third_, keeper),
                                        move(), left, nothing);
  ASSERT_TRUE(id.ok());
  const auto moved = run_task(loop, board.wait(*id));
  ASSERT_EQ(moved->state, JobState::kDone) << moved->error->message();
  EXPECT_EQ(disk.store_uri(), "test:third");
  EXPECT_FALSE(find_way_back(keeper, disk.epoch()).has_value());
  run_task(loop, keeper.abandon());
  run_task(loop, board.stop());
  EXPECT_TRUE(run_task(loop, disk.close()).ok());
}

TEST_F(ReturnRecord, OptionsThatContradictAreRefused) {
  JobOptions options;
  options.keep_record = true;
  for (const Mode mode : {Mode::kPostcopy, Mode::kHybrid, Mode::kShared}) {
    options.mode = mode;
    EXPECT_FALSE(check_options(options).ok());
  }
  options.mode = Mode::kSnapshot;
  EXPECT_TRUE(check_options(options).ok());
  options.point_in_time = true;
  EXPECT_FALSE(check_options(options).ok());
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// A journal that fails for good while a disk is moved: its guest is served on by the source, its
// job ends with the reason, and only a decision that was attempted leaves the owner unknown.
#include <gtest/gtest.h>

#include "tests/unit/migrate/breakable_journal.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using Fate = BreakableJournal::Fate;

constexpr std::uint64_t kRegion = 64 * kKiB;

struct FailingRig : Rig {
  FailingRig() : Rig(kSize, make) {}
  static std::unique_ptr<Journal> make(EventLoop& loop) {
    return std::make_unique<BreakableJournal>(loop);
  }
  BreakableJournal& breakable() { return static_cast<BreakableJournal&>(*journal); }
  /// Ends, or says that it hangs: the simulated clock goes on either way.
  bool writes(std::uint64_t region) {
    struct Outcome {
      bool ended = false;
      Status status;
    };
    const auto outcome = std::make_shared<Outcome>();
    const auto write_to = [](Disk& to, std::uint64_t offset,
                             std::shared_ptr<Outcome> out) -> Task<void> {
      const std::vector<std::byte> bytes(4096, std::byte{9});
      const ConstBytes from(bytes);
      const WriteFlags flags{};
      out->status = co_await to.write(offset, from, flags);
      out->ended = true;
    };
    auto task = write_to(disk, region * kRegion, outcome);
    writers.spawn(std::move(task));
    for (int i = 0; i < 20 && !outcome->ended; ++i) advance(milliseconds(50));
    return outcome->ended && outcome->status.ok();
  }
  bool guest_is_on_source() {
    return disk.store_uri() == "test:source" && disk.epoch() == 1 &&
           disk.gate().state() == Gate::State::kOpen && writes(0);
  }

  TaskScope writers;
};

JobOptions slow_move(Mode mode) {
  JobOptions options;
  options.mode = mode;
  options.bwlimit_bytes_per_second = 256 * kKiB;
  options.copy_request_bytes = 64 * kKiB;
  options.checkpoint_interval = milliseconds(50);
  options.activity_region_bytes = kRegion;
  return options;
}

std::string name_of(const testing::TestParamInfo<Mode>& test) {
  return std::string(to_string(test.param));
}

class RecordedMove : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, RecordedMove, testing::Values(Mode::kDbt, Mode::kMirror), name_of);
class AnyMove : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, AnyMove,
                         testing::Values(Mode::kCold, Mode::kDbt, Mode::kMirror, Mode::kAuto,
                                         Mode::kPostcopy),
                         name_of);

TEST_P(RecordedMove, CheckpointsOfAFailedJournalHoldNobodyUp_I8) {
  FailingRig rig;
  const std::string id = rig.start(slow_move(GetParam()));
  rig.advance(milliseconds(500));
  EXPECT_GT(rig.board.status(id)->checkpoints, 0u);
  rig.breakable().break_down();
  rig.advance(milliseconds(500));
  for (std::uint64_t region = 0; region < 20; ++region) {
    ASSERT_TRUE(rig.writes(region)) << region;
    rig.advance(milliseconds(200));
  }
  EXPECT_LE(rig.breakable().distrusted, 1) << "once is enough";
  EXPECT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
  EXPECT_TRUE(rig.guest_is_on_source());
}

TEST_P(RecordedMove, AnIdleGuestMeetsNoCheckFailure) {
  FailingRig rig;
  const std::string id = rig.start(slow_move(GetParam()));
  rig.advance(milliseconds(500));
  rig.breakable().break_down();
  rig.advance(milliseconds(200));
  EXPECT_TRUE(rig.writes(3));
  rig.advance(std::chrono::seconds(3));
  EXPECT_TRUE(rig.writes(4));
  EXPECT_TRUE(rig.board.abort(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kAborted);
}

TEST_P(RecordedMove, AnEarlierFailureFailsTheJobAndLeavesTheGuestOnItsSource_I8) {
  FailingRig rig;
  JobOptions options = slow_move(GetParam());
  options.bwlimit_bytes_per_second = 4 * kMiB;
  const std::string id = rig.start(options);
  rig.advance(milliseconds(20));
  rig.breakable().break_down();
  const JobStatus ended = rig.wait(id);
  EXPECT_EQ(ended.state, JobState::kFailed);
  ASSERT_TRUE(ended.error);
  EXPECT_NE(ended.error->message().find("planned"), std::string::npos) << ended.error->message();
  EXPECT_TRUE(rig.guest_is_on_source());
}

bool decides(const JournalBatch& batch) { return !batch.disks.empty(); }

TEST_P(AnyMove, ADecisionThatWasRefusedWasNotMade_I8) {
  FailingRig rig;
  rig.breakable().fate = [](const JournalBatch& batch) {
    return decides(batch) ? Fate::kRefused : Fate::kSaved;
  };
  JobOptions options;
  options.mode = GetParam();
  const JobStatus ended = rig.wait(rig.start(options));
  EXPECT_EQ(ended.state, JobState::kFailed);
  EXPECT_TRUE(rig.guest_is_on_source());
}

TEST_P(AnyMove, ADecisionThatFailedMayHaveBeenMade_I3) {
  FailingRig rig;
  rig.breakable().fate = [](const JournalBatch& batch) {
    return decides(batch) ? Fate::kAttempted : Fate::kSaved;
  };
  JobOptions options;
  options.mode = GetParam();
  const JobStatus ended = rig.wait(rig.start(options));
  EXPECT_EQ(ended.state, JobState::kFailed);
  EXPECT_EQ(rig.disk.gate().state(), Gate::State::kShut);
  EXPECT_FALSE(rig.writes(0));
}

TEST_P(AnyMove, ATargetThatMayOwnTheDiskStays_I3) {
  FailingRig rig;
  rig.breakable().fate = [](const JournalBatch& batch) {
    return decides(batch) ? Fate::kAttempted : Fate::kSaved;
  };
  JobOptions options;
  options.mode = GetParam();
  bool discarded = false;
  const JobStatus ended = rig.wait(rig.start(options, &discarded));
  EXPECT_TRUE(ended.owner_unknown);
  EXPECT_FALSE(ended.switched);
  rig.advance(std::chrono::seconds(1));
  EXPECT_FALSE(discarded) << "a restart may find that the disk lives there";
}

TEST_P(AnyMove, AFullJournalIsFoundOutBeforeTheFence_I8) {
  FailingRig rig;
  int fences = 0;
  // Nothing is recorded between the job's beginning and its decision, but for what finds out.
  rig.breakable().fate = [&](const JournalBatch& batch) {
    if (rig.disk.gate().state() != Gate::State::kOpen) ++fences;
    const bool begins = !batch.jobs.empty() && rig.disk.tracking().job() == nullptr;
    return begins ? Fate::kSaved : Fate::kAttempted;
  };
  JobOptions options;
  options.mode = GetParam();
  const JobStatus ended = rig.wait(rig.start(options));
  EXPECT_EQ(ended.state, JobState::kFailed);
  EXPECT_EQ(fences, 0);
  EXPECT_TRUE(rig.guest_is_on_source());
}

/// The small record that finds out may fit where the decision does not.
TEST_P(AnyMove, ADecisionThatHasNoRoomIsNotAttempted_I8) {
  FailingRig rig;
  rig.breakable().room = [](const JournalBatch& batch) {
    return decides(batch) ? Status(Error(ErrorCode::kNoSpace, "planned")) : Status();
  };
  rig.breakable().fate = [](const JournalBatch& batch) {
    return decides(batch) ? Fate::kAttempted : Fate::kSaved;
  };
  JobOptions options;
  options.mode = GetParam();
  const JobStatus ended = rig.wait(rig.start(options));
  EXPECT_EQ(ended.state, JobState::kFailed);
  EXPECT_TRUE(rig.guest_is_on_source());
  EXPECT_TRUE(rig.breakable().health().ok()) << "nothing that counts has failed";
}

TEST_P(AnyMove, RoomIsTakenForTheVeryDecision_I8) {
  FailingRig rig;
  JournalBatch reserved;
  rig.breakable().room = [&](const JournalBatch& batch) {
    if (decides(batch) && batch.disks.front().epoch == 2) reserved = batch;
    return Status();
  };
  bool decided = false;
  rig.breakable().fate = [&](const JournalBatch& batch) {
    if (!decides(batch) || decided) return Fate::kSaved;
    decided = true;
    EXPECT_EQ(batch.disks, reserved.disks);
    EXPECT_EQ(batch.jobs, reserved.jobs);
    EXPECT_EQ(batch.removed_sets, reserved.removed_sets);
    return Fate::kSaved;
  };
  JobOptions options;
  options.mode = GetParam();
  EXPECT_EQ(rig.wait(rig.start(options)).state, JobState::kDone);
  EXPECT_TRUE(decided);
}

}  // namespace
}  // namespace blockmig

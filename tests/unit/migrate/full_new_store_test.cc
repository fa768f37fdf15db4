// SPDX-License-Identifier: Apache-2.0
// A move that switches first, onto a store that takes nothing: found before the decision where it
// can be, and nobody else's trouble after it.
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

JobOptions postcopy(std::uint64_t bwlimit = 0) {
  JobOptions options = options_for(Mode::kPostcopy);
  options.copy_request_bytes = 64 * 1024;
  options.bwlimit_bytes_per_second = bwlimit;
  return options;
}

TEST(FullNewStore, ThatRefusesOnTheSpotHoldsUpNobodyElse_I10) {
  Rig rig;
  const std::string id = rig.start(postcopy(1 << 20));
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  rig.target->plan().write_error_ppm = 1'000'000;
  const JobChange unlimited{.bwlimit_bytes_per_second = 0, .priority = {}, .max_downtime = {}};
  ASSERT_TRUE(rig.board.change(id, unlimited).ok());
  rig.advance(std::chrono::seconds(5));
  EXPECT_EQ(rig.board.status(id)->state, JobState::kRunning);
  EXPECT_TRUE(rig.board.status(id)->error);
  std::vector<std::byte> seen(65536);
  const MutableBytes into(seen);
  EXPECT_TRUE(run_task(rig.loop, rig.disk.read(3 * kMiB, into)).ok());
  rig.target->plan().write_error_ppm = 0;
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

TEST(FullNewStore, PausesTheHydrationForWantOfRoomUntilThereIsSome_I8) {
  for (const bool mirrored : {true, false}) {
    Rig rig;
    JobOptions options = postcopy(1 << 20);
    options.reverse_mirror = mirrored;
    const std::string id = rig.start(options);
    while (rig.board.status(id)->phase != Phase::kHydrating) {
      rig.advance(std::chrono::milliseconds(1));
    }
    rig.target->plan().space_bytes = 2 * kMiB;
    const JobChange unlimited{.bwlimit_bytes_per_second = 0, .priority = {}, .max_downtime = {}};
    ASSERT_TRUE(rig.board.change(id, unlimited).ok());
    rig.advance(std::chrono::seconds(30));
    const JobStatus held = *rig.board.status(id);
    EXPECT_EQ(held.state, JobState::kPaused);
    ASSERT_TRUE(held.error);
    EXPECT_EQ(held.error->code(), ErrorCode::kNoSpace) << held.error->message();
    EXPECT_EQ(held.paused_because, held.error->message());
    EXPECT_EQ(held.decisions.size(), 1U) << "one pause, however often it is tried";
    std::vector<std::byte> seen(65536);
    const MutableBytes into(seen);
    EXPECT_TRUE(run_task(rig.loop, rig.disk.read(3 * kMiB, into)).ok());
    EXPECT_TRUE(rig.board.resume(id).ok()) << "an operator may ask for a try";
    rig.advance(std::chrono::seconds(5));
    EXPECT_EQ(rig.board.status(id)->state, JobState::kPaused);
    rig.target->plan().space_bytes = UINT64_MAX;
    EXPECT_EQ(rig.wait(id).state, JobState::kDone);
    EXPECT_TRUE(rig.equal());
  }
}

TEST(FullNewStore, IsPausedByAnOperatorToo) {
  Rig rig;
  const std::string id = rig.start(postcopy(1 << 20));
  while (rig.board.status(id)->phase != Phase::kHydrating) {
    rig.advance(std::chrono::milliseconds(1));
  }
  rig.target->plan().space_bytes = 2 * kMiB;
  rig.advance(std::chrono::seconds(30));
  ASSERT_EQ(rig.board.status(id)->state, JobState::kPaused);
  ASSERT_TRUE(rig.board.pause(id).ok());
  rig.target->plan().space_bytes = UINT64_MAX;
  rig.advance(std::chrono::seconds(30));
  EXPECT_EQ(rig.board.status(id)->state, JobState::kPaused) << "room alone is not his word";
  ASSERT_TRUE(rig.board.resume(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

TEST(FullNewStore, IsFoundBeforeTheDecision_I8) {
  for (const Mode mode : {Mode::kPostcopy, Mode::kHybrid}) {
    Rig rig;
    rig.disk.write_heat().record(0, Rig::kSize, rig.loop.now(), 5000);  // all is left behind
    rig.target->plan().space_bytes = 0;
    JobOptions options = postcopy();
    options.mode = mode;
    const std::string id = rig.start(options);
    rig.advance(std::chrono::seconds(2));
    const JobStatus held = *rig.board.status(id);
    EXPECT_EQ(held.state, JobState::kPaused);
    EXPECT_FALSE(held.switched);
    ASSERT_TRUE(held.error);
    EXPECT_EQ(held.error->code(), ErrorCode::kNoSpace) << held.error->message();
    EXPECT_EQ(rig.disk.epoch(), 1U);
    rig.target->plan().space_bytes = UINT64_MAX;
    EXPECT_EQ(rig.wait(id).state, JobState::kDone);
    EXPECT_TRUE(rig.equal());
  }
}

TEST(FullNewStore, ThatRefusesWritesFailsTheJobBeforeTheDecision_I8) {
  Rig rig;
  rig.target->plan().write_error_ppm = 1'000'000;
  JobOptions options = postcopy();
  options.on_target_error = OnTargetError::kFail;
  const JobStatus ended = rig.wait(rig.start(options));
  EXPECT_EQ(ended.state, JobState::kFailed);
  EXPECT_FALSE(ended.switched);
  EXPECT_EQ(rig.disk.epoch(), 1U);
}

}  // namespace
}  // namespace blockmig

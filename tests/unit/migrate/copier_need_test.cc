// SPDX-License-Identifier: Apache-2.0
// What a copier needs of the loop, and what a pass asks of the disk for it.
#include "blockmig/migrate/copier_need.h"

#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

void work(CopierNeed& need, double part, int times) {
  for (int i = 0; i < times; ++i) {
    const std::chrono::duration<double, std::milli> worked(part);
    need.worked(std::chrono::duration_cast<Duration>(worked), milliseconds(1));
  }
}

TEST(CopierNeed, BeginsAsIfTheTargetWereFast) {
  EXPECT_EQ(CopierNeed().guest_part(false), CopierNeed::kLeastPart);
}

TEST(CopierNeed, ASlowTargetLeavesTheLoopToTheGuest) {
  CopierNeed need;
  work(need, 0.01, 500);
  EXPECT_GT(need.guest_part(false), 0.9);
}

TEST(CopierNeed, AFastOneNeedsTheLoopButForTheLeastPart) {
  CopierNeed need;
  work(need, 0.01, 500);
  work(need, 0.4, 200);
  EXPECT_EQ(need.guest_part(false), CopierNeed::kLeastPart);
}

TEST(CopierNeed, InBetweenItGrowsWithTheWork) {
  CopierNeed little;
  work(little, 0.05, 500);
  CopierNeed more;
  work(more, 0.15, 500);
  EXPECT_NEAR(little.guest_part(false), 0.8, 0.02);
  EXPECT_NEAR(more.guest_part(false), 0.4, 0.02);
}

TEST(CopierNeed, AMirroredGuestCostsMoreThanItWasChargedFor) {
  CopierNeed need;
  EXPECT_LT(need.guest_part(true), need.guest_part(false));
  work(need, 0.15, 500);
  EXPECT_LT(need.guest_part(true), need.guest_part(false));
  EXPECT_GT(need.guest_part(true), 0.2);
  work(need, 0, 1000);
  EXPECT_GT(need.guest_part(true), 0.99);  // nothing is asked for, nothing is taken
}

/// A move that has just begun, onto a target that answers only after a while.
class PassNeedsTheLoop : public testing::Test {
 protected:
  PassNeedsTheLoop() {
    rig_.target->plan().min_delay = rig_.target->plan().max_delay = milliseconds(5);
    options_.mode = Mode::kMirror;
  }
  std::string start() {
    std::string id = rig_.start(options_);
    rig_.advance(milliseconds(4));
    return id;
  }
  double part() const { return rig_.disk.guest_share().part(rig_.loop.now()); }

  mutable Rig rig_{64 * kMiB};
  JobOptions options_;
};

TEST_F(PassNeedsTheLoop, WhileItCopiesAndNoLonger) {
  const std::string id = start();
  EXPECT_LT(part(), 0.5);
  EXPECT_TRUE(rig_.disk.shares_loop());
  EXPECT_LT(rig_.board.status(id)->guest_share, 0.5) << "the status says so";
  const JobStatus ended = rig_.wait(id);
  EXPECT_EQ(ended.state, JobState::kDone);
  EXPECT_EQ(ended.guest_share, 1);
  EXPECT_FALSE(rig_.disk.shares_loop());
}

TEST_F(PassNeedsTheLoop, NotWhereTheGuestsLatencyIsTheLimit) {
  options_.max_guest_latency = milliseconds(20);
  const std::string id = start();
  EXPECT_EQ(part(), 1);
  EXPECT_EQ(rig_.wait(id).state, JobState::kDone);
}

TEST_F(PassNeedsTheLoop, NotWhileItIsPaused) {
  const std::string id = start();
  ASSERT_TRUE(rig_.board.pause(id).ok());
  rig_.advance(milliseconds(100));
  EXPECT_EQ(part(), 1);
  ASSERT_TRUE(rig_.board.resume(id).ok());
  EXPECT_EQ(rig_.wait(id).state, JobState::kDone);
}

TEST_F(PassNeedsTheLoop, NotWhileTheTargetIsSilent) {
  rig_.target->stall();
  const std::string id = start();
  rig_.advance(milliseconds(100));
  EXPECT_EQ(part(), 1);
  rig_.target->unstall();
  EXPECT_EQ(rig_.wait(id).state, JobState::kDone);
}

TEST_F(PassNeedsTheLoop, NotAfterItWasAborted) {
  const std::string id = start();
  ASSERT_TRUE(rig_.board.abort(id).ok());
  EXPECT_EQ(rig_.wait(id).state, JobState::kAborted);
  EXPECT_FALSE(rig_.disk.shares_loop());
}

}  // namespace
}  // namespace blockmig

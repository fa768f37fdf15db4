// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/guest_pace.h"

#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

/// A store of 20 MiB/s that the copier and a guest share, first come, first served.
class GuestPaceTest : public testing::Test {
 protected:
  GuestPaceTest() {
    rig_.source->plan().bytes_per_second = 20 * kMiB;
    options_.mode = Mode::kDbt;
    options_.copy_request_bytes = 256 * kKiB;  // 12.5 ms of the store
    options_.copy_depth = 8;
  }
  /// Reads a page every few milliseconds until the move has ended.
  Task<void> guest() {
    std::vector<std::byte> page(4096);
    while (!over_) {
      const MutableBytes into(page);
      const Status read = co_await rig_.disk.read(0, into);
      EXPECT_TRUE(read.ok());
      co_await sleep_for(rig_.loop, milliseconds(3));
    }
  }
  Task<void> end(TaskScope& guests) { co_await guests.join(); }
  JobStatus move() {
    TaskScope guests;
    auto reading = guest();
    guests.spawn(std::move(reading));
    rig_.advance(std::chrono::seconds(1));
    const JobStatus status = rig_.wait(rig_.start(options_));
    over_ = true;
    run_task(rig_.loop, end(guests));
    return status;
  }

  Rig rig_{64 * kMiB};
  JobOptions options_;
  bool over_ = false;
};

TEST_F(GuestPaceTest, WithoutALimitTheCopierTakesTheStore) {
  const JobStatus status = move();
  EXPECT_EQ(status.state, JobState::kDone);
  EXPECT_GT(status.guest_p99_ms, 50);
  EXPECT_EQ(status.pace_depth, 0u);
  EXPECT_GT(status.guest_before.requests, 100u);
  EXPECT_LT(status.guest_before.p99_ms, 10);
}

TEST_F(GuestPaceTest, WithOneItGivesWayAndStillEnds) {
  options_.max_guest_latency = milliseconds(20);
  const JobStatus status = move();
  EXPECT_EQ(status.state, JobState::kDone);
  EXPECT_TRUE(rig_.equal());
  EXPECT_LT(status.guest_p99_ms, 30);
  EXPECT_GT(status.pace_depth, 0u);
  EXPECT_LT(status.pace_depth, 8u);
}

TEST_F(GuestPaceTest, WithoutAGuestItDoesNotHoldBack) {
  options_.max_guest_latency = milliseconds(20);
  const TimePoint begun = rig_.loop.now();
  EXPECT_EQ(rig_.wait(rig_.start(options_)).state, JobState::kDone);
  EXPECT_LT(rig_.loop.now() - begun, std::chrono::seconds(5)) << "64 MiB at 20 MiB/s";
}

TEST_F(GuestPaceTest, SaysWhenTheCopierIsNotToBlame) {
  rig_.source->plan().min_delay = rig_.source->plan().max_delay = milliseconds(40);
  options_.max_guest_latency = milliseconds(10);
  const JobStatus status = move();
  EXPECT_EQ(status.state, JobState::kDone);
  bool said = false;
  for (const Decision& decision : status.decisions) said = said || decision.what == "guest latency";
  EXPECT_TRUE(said);
}

TEST_F(GuestPaceTest, AnOperatorsLimitStays) {
  options_.max_guest_latency = milliseconds(20);
  GuestPace pace(rig_.disk, options_);
  EXPECT_EQ(pace.rate(0), 0u);
  EXPECT_EQ(pace.rate(5 * kMiB), 5 * kMiB);
  EXPECT_EQ(pace.depth(), 2u);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// An old store that is silent, slow, or bad in one place: it costs no more than that place, no
// memory that grows, and the guest of the new store no time.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "blockmig/migrate/hydrating_device.h"
#include "tests/unit/migrate/hydrating_rig.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

void advance_to_hydration(Rig& rig, const std::string& id) {
  while (rig.board.status(id)->phase != Phase::kHydrating) rig.advance(milliseconds(1));
}

TEST(FailingBase, AFrozenOneCostsBoundedMemory_I10) {
  Rig rig;
  JobOptions options = options_for(Mode::kPostcopy);
  options.bwlimit_bytes_per_second = 64 * kKiB;  // so that it is frozen in the middle
  const std::string id = rig.start(options);
  advance_to_hydration(rig, id);
  rig.advance(milliseconds(50));
  rig.source->stall();
  rig.advance(minutes(60));
  // A window of chunks that nobody waits for any more, and one that is waited for.
  EXPECT_LE(rig.source->in_flight(), 2 * 16 * kMiB / (64 * kKiB));
  rig.source->unstall();
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

struct FailingBaseOfDevice : HydratingRig {};

TEST_F(FailingBaseOfDevice, ReadsInVainOfAFrozenOneCostBoundedMemory_I10) {
  options.keep_reads = false;
  options.patience = seconds(1);
  options.window_bytes = 8 * kChunk;
  open(false);
  base->stall();
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(read(7 * kChunk, kChunk).ok());
  EXPECT_LE(base->in_flight(), 8U);
  base->unstall();
  run_task(loop, sleep_for(loop, milliseconds(10)));
  EXPECT_TRUE(read(7 * kChunk, kChunk).ok()) << "the room has come back";
}

TEST_F(FailingBaseOfDevice, ABadSectorCostsNoOtherItsTime_I10) {
  options.read_ahead_bytes = 512 * 1024;
  open(false);
  base->plan().bad = {5 * kChunk + 4096, 512};
  const TimePoint begun = loop.now();
  expect_content(3 * kChunk, kChunk);
  expect_content(7 * kChunk, kChunk);
  expect_content(5 * kChunk, 4096);
  expect_content(5 * kChunk + 8192, 4096);
  EXPECT_LT(loop.now() - begun, seconds(1));
  EXPECT_FALSE(read(5 * kChunk + 4096, 512).ok());
  base->plan().bad = {};
  expect_content(5 * kChunk, kChunk);
}

Task<void> read_again_and_again(Rig& rig, const bool& stop, std::uint64_t offset) {
  std::vector<std::byte> bytes(512);
  while (!stop) {
    const MutableBytes into(bytes);
    const Status status = co_await rig.disk.read(offset, into);
    static_cast<void>(status);
    co_await sleep_for(rig.loop, milliseconds(1));
  }
}

TEST(FailingBase, ABadSectorThatIsReadAgainAndAgainStopsNoPull) {
  Rig rig;
  const std::uint64_t chunk = 64 * kKiB;
  JobOptions options = options_for(Mode::kPostcopy);
  options.bwlimit_bytes_per_second = kMiB;
  const std::string id = rig.start(options);
  advance_to_hydration(rig, id);
  rig.source->plan().bad = {60 * chunk + 512, 512};
  bool stop = false;
  TaskScope guest;
  guest.spawn(read_again_and_again(rig, stop, 60 * chunk + 512));
  rig.advance(seconds(20));
  EXPECT_EQ(rig.board.status(id)->remaining_bytes, chunk);
  stop = true;
  rig.source->plan().bad = {};
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

Task<void> flush_again_and_again(Rig& rig, const bool& stop) {
  while (!stop) {
    const Status status = co_await rig.disk.flush();
    static_cast<void>(status);
    co_await sleep_for(rig.loop, std::chrono::microseconds(100));
  }
}

TEST(FailingBase, AWholeDiskWaitsForNoSlowFlushOfIt_I10) {
  Rig rig;
  const std::string id = rig.start(options_for(Mode::kPostcopy));
  advance_to_hydration(rig, id);
  rig.source->plan().min_delay = milliseconds(100);
  rig.source->plan().max_delay = milliseconds(500);
  bool stop = false;
  TaskScope guests;
  for (int i = 0; i < 8; ++i) guests.spawn(flush_again_and_again(rig, stop));
  while (rig.board.status(id)->remaining_bytes > 0) rig.advance(milliseconds(1));
  for (int i = 0; i < 50 && !is_final(rig.board.status(id)->state); ++i) {
    rig.advance(milliseconds(100));
  }
  EXPECT_EQ(rig.board.status(id)->state, JobState::kDone);
  stop = true;
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  rig.advance(seconds(2));
}

/// One write of the copier at the target, one flush of a checkpoint at the source; both stores thaw
/// at once.
TEST(FailingTarget, IsNotSentTheFlushOfACheckpointWhileItIsRevived) {
  for (unsigned salt = 0; salt < 60; ++salt) {
    Rig rig;
    for (unsigned i = 0; i < salt; ++i) static_cast<void>(rig.random.below(2));
    for (const auto& store : {rig.source, rig.target}) {
      store->plan().min_delay = store->plan().max_delay = milliseconds(5);
    }
    JobOptions options = options_for(Mode::kDbt);
    options.copy_depth = 1;
    options.target_timeout = milliseconds(200);
    options.checkpoint_interval = milliseconds(3);
    const std::string id = rig.start(options);
    bool found = false;
    for (int i = 0; i < 20000 && !found; ++i) {
      rig.advance(std::chrono::microseconds(100));
      const JobStatus status = *rig.board.status(id);
      found = status.phase == Phase::kCopying && status.checkpoints > 0 &&
              rig.target->in_flight() == 1 && rig.source->in_flight() == 1;
    }
    ASSERT_TRUE(found);
    rig.source->stall();
    rig.target->stall();
    rig.advance(milliseconds(230));  // the write has timed out, and the probe waits for it
    rig.source->unstall();
    rig.target->unstall();
    EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  }
}

}  // namespace
}  // namespace blockmig

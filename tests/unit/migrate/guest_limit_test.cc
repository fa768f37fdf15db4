// SPDX-License-Identifier: Apache-2.0
// A guest that is held back so that a copy converges goes free while there is no copying.
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Overwrites the disk from the end to the beginning, 4 KiB in each chunk.
class BusyGuest final {
 public:
  explicit BusyGuest(Rig& rig) : rig_(rig) { scope_.spawn(run()); }
  ~BusyGuest() { stop(); }
  void stop() {
    stop_ = true;
    while (scope_.running() > 0) rig_.advance(milliseconds(10));
  }
  std::uint64_t writes() const { return writes_; }

 private:
  Task<void> run() {
    static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    for (std::uint64_t i = 0; !stop_; ++i) {
      const Status status = co_await rig_.disk.write((63 - i % 64) * 65536, from, flags);
      EXPECT_TRUE(status.ok());
      ++writes_;
      co_await sleep_for(rig_.loop, milliseconds(1));
    }
  }

  Rig& rig_;
  TaskScope scope_;
  bool stop_ = false;
  std::uint64_t writes_ = 0;
};

class HeldGuest : public testing::TestWithParam<Mode> {
 protected:
  std::string start_until_held() {
    rig_.target->plan().bytes_per_second = 2 * kMiB;
    JobOptions options = options_for(GetParam());
    // A chunk takes longer: `auto` finds no way out in its mirror.
    options.mirror_deadline = milliseconds(20);
    options.on_stall = OnStall::kThrottle;
    options.max_downtime = milliseconds(20);
    options.target_timeout = seconds(2);
    const std::string id = rig_.start(options);
    for (int i = 0; i < 3000 && limit(id) == 0; ++i) rig_.advance(milliseconds(10));
    EXPECT_GT(limit(id), 0u);
    return id;
  }
  std::uint64_t limit(const std::string& id) {
    return rig_.board.status(id)->throttle_bytes_per_second;
  }
  std::uint64_t writes_in_a_second() {
    const std::uint64_t before = guest_.writes();
    rig_.advance(seconds(1));
    return guest_.writes() - before;
  }
  Rig rig_;
  BusyGuest guest_{rig_};
};

INSTANTIATE_TEST_SUITE_P(Modes, HeldGuest,
                         testing::Values(Mode::kDbt, Mode::kSnapshot, Mode::kAuto),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(HeldGuest, GoesFreeWhileAnOperatorHasPausedTheJob) {
  const std::string id = start_until_held();
  const std::uint64_t held_to = limit(id);
  EXPECT_LT(writes_in_a_second(), 900u);
  ASSERT_TRUE(rig_.board.pause(id).ok());
  EXPECT_EQ(limit(id), 0u);
  EXPECT_GE(writes_in_a_second(), 900u);
  ASSERT_TRUE(rig_.board.resume(id).ok());
  EXPECT_GT(limit(id), 0u);
  EXPECT_LE(limit(id), held_to);
  guest_.stop();
  EXPECT_EQ(rig_.wait(id).state, JobState::kDone);
  EXPECT_EQ(rig_.disk.write_throttle().rate(), 0u);
}

TEST_P(HeldGuest, GoesFreeWhileTheTargetIsInTrouble_I10) {
  const std::string id = start_until_held();
  rig_.target->stall();
  for (int i = 0; i < 1000 && rig_.board.status(id)->state != JobState::kPaused; ++i) {
    rig_.advance(milliseconds(10));
  }
  ASSERT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  EXPECT_EQ(limit(id), 0u);
  EXPECT_GE(writes_in_a_second(), 900u);
  // An operator's word that the job may go on does not mend the target.
  ASSERT_TRUE(rig_.board.resume(id).ok());
  EXPECT_EQ(limit(id), 0u);
  rig_.target->unstall();
  for (int i = 0; i < 2000 && limit(id) == 0; ++i) rig_.advance(milliseconds(10));
  EXPECT_GT(limit(id), 0u);
  guest_.stop();
  EXPECT_EQ(rig_.wait(id).state, JobState::kDone);
}

/// With --on-stall throttle, writes wait for room in the buffer for as long as the target may take.
class FullBuffer : public testing::Test {
 protected:
  void SetUp() override {
    rig_.target->plan().bytes_per_second = 64 * kKiB;
    JobOptions options = options_for(Mode::kSnapshot);
    options.point_in_time = true;
    options.on_stall = OnStall::kThrottle;
    options.snapshot_buffer_bytes = 4 * 65536;
    id_ = rig_.start(options);
    rig_.advance(seconds(5));
    ASSERT_EQ(rig_.board.status(id_)->generations_begun, 1u);
    const std::uint64_t before = guest_.writes();
    rig_.advance(milliseconds(500));
    ASSERT_LT(guest_.writes() - before, 10u) << "they wait for room";
  }
  void expect_free() {
    rig_.advance(milliseconds(100));
    const std::uint64_t before = guest_.writes();
    rig_.advance(seconds(1));
    EXPECT_GE(guest_.writes() - before, 900u);
  }
  void expect_later_instant() {
    rig_.target->plan().bytes_per_second = 0;
    const JobStatus status = rig_.wait(id_);
    EXPECT_EQ(status.state, JobState::kDone) << (status.error ? status.error->message() : "");
    EXPECT_EQ(status.generations_complete, 2u);
  }
  Rig rig_;
  BusyGuest guest_{rig_};
  std::string id_;
};

TEST_F(FullBuffer, NoWriteWaitsForRoomWhileTheJobIsPaused) {
  ASSERT_TRUE(rig_.board.pause(id_).ok());
  expect_free();
  ASSERT_TRUE(rig_.board.resume(id_).ok());
  expect_later_instant();
}

TEST_F(FullBuffer, NoWriteWaitsForRoomInATargetWithoutRoom_I10) {
  rig_.target->plan().space_bytes = 0;
  for (int i = 0; i < 1000 && rig_.board.status(id_)->state != JobState::kPaused; ++i) {
    rig_.advance(milliseconds(10));
  }
  ASSERT_EQ(rig_.board.status(id_)->state, JobState::kPaused);
  expect_free();
  rig_.target->plan().space_bytes = UINT64_MAX;
  expect_later_instant();
}

// Each trouble postpones a switchover, which says nothing about the guest.
TEST(GuestLimit, NobodyIsHeldBackForATargetInTrouble) {
  Rig rig;
  BusyGuest guest(rig);
  for (const auto& store : {rig.source, rig.target}) {
    store->plan().min_delay = store->plan().max_delay = milliseconds(1);
  }
  rig.target->plan().flush_error_ppm = 1'000'000;
  JobOptions options = options_for(Mode::kDbt);
  options.on_stall = OnStall::kThrottle;
  options.max_downtime = seconds(1);
  const std::string id = rig.start(options);
  // Always when it works again it fails once more, until the last time.
  for (int times = 0; times < 6; ++times) {
    for (int i = 0; i < 1000 && !rig.board.status(id)->error; ++i) rig.advance(milliseconds(1));
    ASSERT_TRUE(rig.board.status(id)->error) << times;
    rig.target->plan().flush_error_ppm = 0;
    for (int i = 0; i < 5000 && rig.board.status(id)->error; ++i) rig.advance(milliseconds(1));
    ASSERT_FALSE(rig.board.status(id)->error) << times;
    if (times < 5) rig.target->plan().flush_error_ppm = 1'000'000;
  }
  const JobStatus status = rig.wait(id);
  EXPECT_EQ(status.state, JobState::kDone);
  for (const Decision& decision : status.decisions) {
    EXPECT_EQ(decision.what.find("guest's writes held"), std::string::npos) << decision.why;
  }
}

TEST(PausedFromItsBeginning, ACopyOfAnInstantBeginsNoneBeforeItIsResumed) {
  Rig rig;
  BusyGuest guest(rig);
  JobOptions options = options_for(Mode::kSnapshot);
  options.point_in_time = true;
  options.snapshot_buffer_bytes = 65536;
  const std::string id = rig.start(options);
  ASSERT_TRUE(rig.board.pause(id).ok());
  rig.advance(seconds(5));
  EXPECT_EQ(rig.board.status(id)->generations_begun, 0u);
  ASSERT_TRUE(rig.board.resume(id).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

}  // namespace
}  // namespace blockmig

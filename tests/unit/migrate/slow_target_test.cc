// SPDX-License-Identifier: Apache-2.0
// A target that takes less than the guest writes: the mirror converges all the same, in time that
// can be told, without a stall, also where the guest's writes under way do not fit the downtime.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t kDiskBytes = 32 * kMiB;

/// A guest that keeps so many writes of 64 KiB under way, all over the disk.
class DeepGuest final {
 public:
  DeepGuest(Rig& rig, unsigned depth) : rig_(rig) {
    for (unsigned i = 0; i < depth; ++i) scope_.spawn(write(i));
  }
  ~DeepGuest() {
    stop_ = true;
    while (scope_.running() > 0) rig_.advance(milliseconds(10));
  }
  Duration longest() const { return longest_; }
  std::uint64_t writes() const { return writes_; }

 private:
  Task<void> write(unsigned which) {
    static const std::vector<std::byte> bytes(65536, std::byte{0x5a});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    Random random(which + 1);
    while (!stop_) {
      const TimePoint begun = rig_.loop.now();
      const Status status =
          co_await rig_.disk.write(random.below(kDiskBytes / 65536) * 65536, from, flags);
      EXPECT_TRUE(status.ok());
      longest_ = std::max(longest_, rig_.loop.now() - begun);
      ++writes_;
      co_await sleep_for(rig_.loop, milliseconds(1));
    }
  }

  Rig& rig_;
  TaskScope scope_;
  bool stop_ = false;
  Duration longest_{};
  std::uint64_t writes_ = 0;
};

JobOptions options_for(Mode mode, Duration max_downtime) {
  JobOptions options;
  options.mode = mode;
  options.max_downtime = max_downtime;
  return options;
}

class SlowTarget : public testing::TestWithParam<Mode> {};

/// 512 KiB under way, 16 MiB/s: what the guest has under way takes 31 ms, three times the fence.
TEST_P(SlowTarget, ConvergesThoughTheGuestsWritesUnderWayDoNotFitTheFence) {
  Rig rig(kDiskBytes);
  rig.target->plan().bytes_per_second = 16 * kMiB;
  const JobOptions options = options_for(GetParam(), milliseconds(10));
  DeepGuest guest(rig, 8);
  rig.advance(milliseconds(100));
  const JobStatus status = rig.wait(rig.start(options));
  ASSERT_EQ(status.state, JobState::kDone);
  EXPECT_LT(status.elapsed_seconds, 15.0) << "an idle guest's disk takes two";
  EXPECT_LE(status.stall_ms, 10.0);
  EXPECT_LT(status.bytes_copied, 3 * kDiskBytes) << "late writes are few";
  // 32 ms: on the new store, which takes so long for what the guest has under way.
  EXPECT_LE(guest.longest(), options.mirror_deadline + options.max_downtime + milliseconds(32));
}

INSTANTIATE_TEST_SUITE_P(Modes, SlowTarget, testing::Values(Mode::kMirror, Mode::kAuto),
                         [](const auto& tested) { return std::string(to_string(tested.param)); });

TEST(SlowMirror, TheCopyTakesItsPartOfTheTargetAndTheGuestsWritesAreInTime) {
  Rig rig(kDiskBytes);
  rig.target->plan().bytes_per_second = 32 * kMiB;
  DeepGuest guest(rig, 8);
  rig.advance(milliseconds(100));
  const JobStatus status = rig.wait(rig.start(options_for(Mode::kMirror, milliseconds(100))));
  ASSERT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.mirror_fallbacks, 0u);
  EXPECT_LT(status.elapsed_seconds, 2.5) << "a second for the disk alone";
  EXPECT_LE(status.longest_mirror_wait_ms, 50.0);
}

TEST(SlowAuto, NoWriteWaitsBehindWhatTheCopierSentBeforeItMirrored) {
  Rig rig(kDiskBytes);
  rig.target->plan().bytes_per_second = 32 * kMiB;
  DeepGuest guest(rig, 2);
  rig.advance(milliseconds(100));
  const JobStatus status = rig.wait(rig.start(options_for(Mode::kAuto, milliseconds(10))));
  ASSERT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.active_mode, Mode::kMirror);
  EXPECT_LE(guest.longest(), milliseconds(25)) << status.elapsed_seconds;
  EXPECT_LE(status.longest_mirror_wait_ms, 25.0);
}

/// 2 ms a chunk: two writes under way, each behind one of the copier's, take 8 ms.
TEST(SlowMirror, HalfOfTheTargetIsTheGuests) {
  Rig rig(kDiskBytes);
  rig.target->plan().bytes_per_second = 32 * kMiB;
  DeepGuest guest(rig, 2);
  rig.advance(milliseconds(100));
  const JobStatus status = rig.wait(rig.start(options_for(Mode::kMirror, milliseconds(10))));
  ASSERT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.mirror_fallbacks, 0u);
  EXPECT_LE(guest.longest(), milliseconds(10)) << status.elapsed_seconds;
}

/// A write that meets a closed gate, and freezes the target behind it.
Task<void> freeze_under_fence(Rig& rig, Duration& waited) {
  static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  while (rig.disk.gate().state() == Gate::State::kOpen) {
    co_await sleep_for(rig.loop, std::chrono::microseconds(50));
  }
  rig.target->stall();
  const TimePoint begun = rig.loop.now();
  const Status status = co_await rig.disk.write(0, from, flags);
  EXPECT_TRUE(status.ok());
  waited = rig.loop.now() - begun;
  rig.target->unstall();
}

TEST(FrozenTarget, AFenceInVainLeavesTheDowntimeTimeForTheCrowdBehindIt) {
  Rig rig;
  rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(1);
  const JobOptions options = options_for(Mode::kDbt, milliseconds(10));
  Duration waited{};
  TaskScope guest;
  guest.spawn(freeze_under_fence(rig, waited));
  const JobStatus status = rig.wait(rig.start(options));
  EXPECT_EQ(status.state, JobState::kDone);
  EXPECT_EQ(status.switchovers_postponed, 1u);
  EXPECT_GT(waited, milliseconds(7));
  EXPECT_LE(waited, milliseconds(8));
}

}  // namespace
}  // namespace blockmig

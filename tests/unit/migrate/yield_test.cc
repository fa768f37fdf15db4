// SPDX-License-Identifier: Apache-2.0
// Jobs that come to rest because another daemon is to take this one's place: at whatever moment,
// nobody waits for one then, and it goes on where nobody takes it after all.
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr Duration kPatience = seconds(5);

struct YieldRig : Rig {
  std::string begin(const JobOptions& options) {
    auto opener = std::make_unique<TestOpener>(target, nullptr);
    const auto id = board.start(disk, std::move(opener), options, "as asked");
    return id.ok() ? *id : "refused: " + id.error().message();
  }
  Status yield() { return run_task(loop, board.yield(kPatience)); }
  void stop() { run_task(loop, board.stop(JobBoard::AtStop::kSuspend)); }
};

class YieldingMode : public testing::TestWithParam<Mode> {};
INSTANTIATE_TEST_SUITE_P(Modes, YieldingMode,
                         testing::Values(Mode::kCold, Mode::kSnapshot, Mode::kDbt, Mode::kMirror,
                                         Mode::kAuto, Mode::kPostcopy, Mode::kHybrid),
                         [](const auto& test) { return std::string(to_string(test.param)); });

void yield_after(Mode mode, Duration time, bool takes_over) {
  YieldRig rig;
  rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(3);
  const std::string id = rig.begin(options_for(mode));
  if (time > Duration::zero()) rig.advance(time);
  const std::string why = std::string(to_string(mode)) + " after " +
                          std::to_string(std::chrono::duration_cast<milliseconds>(time).count()) +
                          " ms";
  ASSERT_TRUE(rig.yield().ok()) << why;
  const bool switched = rig.disk.store_uri() != "test:source";
  const bool ended = is_final(rig.board.status(id)->state);
  ASSERT_TRUE(rig.write(4096, std::vector<std::byte>(512, std::byte{0x11})).ok()) << why;
  const std::uint64_t copied = rig.board.status(id)->bytes_copied;
  rig.advance(seconds(20));
  if (!switched) {
    EXPECT_EQ(rig.disk.store_uri(), "test:source") << why;
    EXPECT_EQ(rig.board.status(id)->state, JobState::kRunning) << why;
    EXPECT_EQ(rig.board.status(id)->bytes_copied, copied) << why;
  }
  if (takes_over) {
    const TimePoint begun = rig.loop.now();
    rig.stop();
    EXPECT_LT(rig.loop.now() - begun, milliseconds(100)) << why;
    EXPECT_EQ(rig.board.status(id)->suspended, !switched && !ended) << why;
    return;
  }
  rig.board.stay();
  const JobStatus status = rig.wait(id);
  ASSERT_EQ(status.state, JobState::kDone) << why;
  std::byte seen;
  rig.target->peek(4096, {&seen, 1});
  EXPECT_EQ(seen, std::byte{0x11}) << why;
}

TEST_P(YieldingMode, RestsAndGoesOn) {
  for (int i = 0; i < 50; ++i) yield_after(GetParam(), std::chrono::microseconds(1100 * i), false);
}

TEST_P(YieldingMode, RestsAndIsSuspendedAtOnce) {
  for (int i = 0; i < 50; ++i) yield_after(GetParam(), std::chrono::microseconds(1100 * i), true);
}

JobOptions slow_move() {
  JobOptions options = options_for(Mode::kDbt);
  options.bwlimit_bytes_per_second = 256 * kKiB;
  options.checkpoint_interval = std::chrono::hours(1);
  return options;
}

TEST(Yield, RecordsWhatIsCopied) {
  YieldRig rig;
  const std::string id = rig.begin(slow_move());
  rig.advance(seconds(1));
  ASSERT_EQ(rig.board.status(id)->checkpoints, 0U);
  ASSERT_TRUE(rig.yield().ok());
  EXPECT_EQ(rig.board.status(id)->checkpoints, 1U);
}

TEST(Yield, NoJobBeginsMeanwhile) {
  YieldRig rig;
  ASSERT_TRUE(rig.yield().ok());
  EXPECT_NE(rig.begin(slow_move()).find("taking this one's place"), std::string::npos);
  rig.board.stay();
  EXPECT_EQ(rig.begin(slow_move()), "job-1");
}

TEST(Yield, TargetThatDoesNotAnswerIsNamed_I10) {
  YieldRig rig;
  const std::string id = rig.begin(slow_move());
  rig.advance(milliseconds(500));
  rig.target->stall();
  rig.advance(milliseconds(500));
  const Status rest = rig.yield();
  ASSERT_FALSE(rest.ok());
  EXPECT_EQ(rest.error().code(), ErrorCode::kBusy);
  EXPECT_NE(rest.error().message().find("its target does not answer"), std::string::npos);
  rig.board.stay();
  rig.target->unstall();
  JobChange faster;
  faster.bwlimit_bytes_per_second = 0;
  ASSERT_TRUE(rig.board.change(id, faster).ok());
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
}

TEST(Yield, PauseOfAnOperatorStays) {
  YieldRig rig;
  const std::string id = rig.begin(slow_move());
  rig.advance(seconds(1));
  ASSERT_TRUE(rig.board.pause(id).ok());
  ASSERT_TRUE(rig.yield().ok());
  rig.board.stay();
  const std::uint64_t copied = rig.board.status(id)->bytes_copied;
  rig.advance(seconds(10));
  EXPECT_EQ(rig.board.status(id)->state, JobState::kPaused);
  EXPECT_EQ(rig.board.status(id)->bytes_copied, copied);
}

TEST(Yield, ResumedByAnOperatorItRestsStill) {
  YieldRig rig;
  const std::string id = rig.begin(slow_move());
  rig.advance(seconds(1));
  ASSERT_TRUE(rig.board.pause(id).ok());
  ASSERT_TRUE(rig.yield().ok());
  ASSERT_TRUE(rig.board.resume(id).ok());
  const std::uint64_t copied = rig.board.status(id)->bytes_copied;
  rig.advance(seconds(10));
  EXPECT_EQ(rig.board.status(id)->bytes_copied, copied);
}

TEST(Yield, JobThatWouldEndIsNamed) {
  YieldRig rig;
  JobOptions options = slow_move();
  options.on_restart = OnRestart::kAbort;
  const std::string id = rig.begin(options);
  rig.advance(milliseconds(500));
  const Status leaves = rig.board.check_leaving();
  ASSERT_FALSE(leaves.ok());
  EXPECT_NE(leaves.error().message().find("--on-restart abort"), std::string::npos);
}

}  // namespace
}  // namespace blockmig

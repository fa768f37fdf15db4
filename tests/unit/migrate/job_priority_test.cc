// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "rig.h"

namespace blockmig {
namespace {

using std::chrono::seconds;

/// Two disks of one daemon, each with a move of its own.
struct TwoMoves {
  static constexpr std::uint64_t kSize = 64 * kMiB;

  TwoMoves()
      : other_source(std::make_shared<FaultDevice>(rig.loop, rig.random, "source2", kSize)),
        other_target(std::make_shared<FaultDevice>(rig.loop, rig.random, "target2", kSize)),
        other(rig.loop, "vm2", std::make_unique<SharedDevice>(other_source), "test:source2", 1) {
    const std::vector<std::byte> content(kSize, std::byte{7});
    other_source->preload(0, content);
  }
  ~TwoMoves() {
    run_task(rig.loop, rig.board.stop());
    const Status closed = run_task(rig.loop, other.close());
    static_cast<void>(closed);
  }
  void start(const JobOptions& first_options, const JobOptions& second_options) {
    first = rig.start(first_options);
    second = *rig.board.start(other, std::make_unique<TestOpener>(other_target), second_options);
  }
  std::uint64_t copied(const std::string& job) { return rig.board.status(job)->bytes_copied; }

  Rig rig{kSize};
  std::shared_ptr<FaultDevice> other_source;
  std::shared_ptr<FaultDevice> other_target;
  Disk other;
  std::string first;
  std::string second;
};

JobOptions with_priority(Priority priority) {
  JobOptions options;
  options.mode = Mode::kDbt;
  options.priority = priority;
  return options;
}

TEST(JobPriority, TwoJobsShareTheDaemonsRateByPriorityAndTheLastOneGetsIt) {
  TwoMoves moves;
  moves.rig.board.bandwidth().set_rate(5 * kMiB);
  moves.start(with_priority(Priority::kLow), with_priority(Priority::kNormal));
  moves.rig.advance(seconds(10));
  EXPECT_NEAR(static_cast<double>(moves.copied(moves.first)) / kMiB, 10, 1.5);
  EXPECT_NEAR(static_cast<double>(moves.copied(moves.second)) / kMiB, 40, 1.5);
  EXPECT_EQ(moves.rig.board.status(moves.first)->priority, Priority::kLow);
  const TimePoint begun = moves.rig.loop.now();
  EXPECT_EQ(moves.rig.wait(moves.first).state, JobState::kDone);
  EXPECT_EQ(moves.rig.wait(moves.second).state, JobState::kDone);
  // 128 MiB at 5 MiB a second, of which ten have passed.
  const double took = std::chrono::duration<double>(moves.rig.loop.now() - begun).count();
  EXPECT_NEAR(took, 15.6, 1.0);
}

TEST(JobPriority, ChangedWhileRunningItCountsAtOnce) {
  TwoMoves moves;
  moves.rig.board.bandwidth().set_rate(5 * kMiB);
  moves.start(with_priority(Priority::kLow), with_priority(Priority::kHigh));
  moves.rig.advance(seconds(1));
  JobChange change;
  change.priority = Priority::kHigh;
  ASSERT_TRUE(moves.rig.board.change(moves.first, change).ok());
  const std::uint64_t before = moves.copied(moves.first);
  moves.rig.advance(seconds(8));
  EXPECT_NEAR(static_cast<double>(moves.copied(moves.first) - before) / kMiB, 20, 2);
}

TEST(JobPriority, AnAbortedJobDoesNotWaitForTheDaemonsRate) {
  TwoMoves moves;
  moves.rig.board.bandwidth().set_rate(1000);
  moves.start(with_priority(Priority::kLow), with_priority(Priority::kHigh));
  moves.rig.advance(seconds(1));
  ASSERT_TRUE(moves.rig.board.abort(moves.first).ok());
  const TimePoint begun = moves.rig.loop.now();
  EXPECT_EQ(moves.rig.wait(moves.first).state, JobState::kAborted);
  EXPECT_LT(moves.rig.loop.now() - begun, seconds(1));
}

TEST(JobPriority, AJobsOwnLimitHoldsUnderTheDaemons) {
  TwoMoves moves;
  moves.rig.board.bandwidth().set_rate(5 * kMiB);
  JobOptions slow = with_priority(Priority::kHigh);
  slow.bwlimit_bytes_per_second = kMiB;
  moves.start(slow, with_priority(Priority::kLow));
  moves.rig.advance(seconds(10));
  EXPECT_NEAR(static_cast<double>(moves.copied(moves.first)) / kMiB, 10, 1);
  EXPECT_NEAR(static_cast<double>(moves.copied(moves.second)) / kMiB, 40, 1.5);
}

}  // namespace
}  // namespace blockmig

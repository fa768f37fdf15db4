// SPDX-License-Identifier: Apache-2.0
// `--verify full` beside stores that fail for a while: what is read back later is read back then.
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class ReadBack : public testing::TestWithParam<Mode> {
 protected:
  /// A move that has copied everything, and is reading the target back.
  std::string start_and_copy() {
    JobOptions options = options_for(GetParam());
    options.verify = Verify::kFull;
    options.copy_depth = 1;
    options.target_timeout = seconds(2);
    rig_.target->plan().min_delay = rig_.target->plan().max_delay = milliseconds(20);
    const std::string id = rig_.start(options);
    while (rig_.board.status(id)->bytes_copied < Rig::kSize) rig_.advance(milliseconds(1));
    rig_.advance(milliseconds(5));
    return id;
  }
  void expect_moved(const std::string& id) {
    const JobStatus status = rig_.wait(id);
    EXPECT_EQ(status.state, JobState::kDone) << (status.error ? status.error->message() : "");
    EXPECT_TRUE(rig_.equal());
  }
  Rig rig_;
};

TEST_P(ReadBack, ATargetThatFallsSilentPausesTheJobWhichGoesOnWhenItAnswers) {
  const std::string id = start_and_copy();
  rig_.target->stall();
  rig_.advance(seconds(20));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  rig_.target->unstall();
  expect_moved(id);
}

TEST_P(ReadBack, AShortErrorOfTheSourceIsOutlasted) {
  const std::string id = start_and_copy();
  rig_.source->plan().read_error_ppm = 1'000'000;
  rig_.advance(milliseconds(150));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kRunning);
  rig_.source->plan().read_error_ppm = 0;
  expect_moved(id);
}

TEST_P(ReadBack, ALastingErrorOfTheSourceEndsTheJob_I11) {
  const std::string id = start_and_copy();
  rig_.source->plan().read_error_ppm = 1'000'000;
  const JobStatus status = rig_.wait(id);
  ASSERT_EQ(status.state, JobState::kFailed);
  EXPECT_NE(status.error->message().find("reading the source"), std::string::npos)
      << status.error->message();
  EXPECT_EQ(rig_.disk.epoch(), 1u);
}

TEST_P(ReadBack, ASilentSourceIsNotTheTargetsTrouble) {
  const std::string id = start_and_copy();
  rig_.source->stall();
  rig_.advance(seconds(20));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kRunning);
  rig_.source->unstall();
  expect_moved(id);
}

INSTANTIATE_TEST_SUITE_P(Modes, ReadBack, testing::Values(Mode::kCold, Mode::kDbt, Mode::kMirror),
                         [](const auto& row) { return std::string(to_string(row.param)); });

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "tools/control/exit_code.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

int exit_of(ErrorCode code) { return static_cast<int>(exit_code_of(Error(code, "x"))); }

TEST(ExitCode, IsTheDocumentedOneForEveryError) {
  EXPECT_EQ(exit_of(ErrorCode::kIo), 1);
  EXPECT_EQ(exit_of(ErrorCode::kDisconnected), 1);
  EXPECT_EQ(exit_of(ErrorCode::kInvalid), 2);
  EXPECT_EQ(exit_of(ErrorCode::kNotConverging), 3);
  EXPECT_EQ(exit_of(ErrorCode::kNotFound), 4);
  EXPECT_EQ(exit_of(ErrorCode::kBusy), 5);
  EXPECT_EQ(exit_of(ErrorCode::kMismatch), 6);
  EXPECT_EQ(exit_of(ErrorCode::kShutdown), 7);
  EXPECT_EQ(exit_of(ErrorCode::kCancelled), 8);
  EXPECT_EQ(exit_of(ErrorCode::kPrecondition), 9);
  EXPECT_EQ(exit_of(ErrorCode::kNoSpace), 9);
  EXPECT_EQ(static_cast<int>(ExitCode::kInterrupted), 130);
}

TEST(ExitCode, OfAJobFollowsItsStateThenItsError) {
  JobStatus job;
  job.state = JobState::kDone;
  EXPECT_EQ(exit_code_of(job), ExitCode::kOk);
  job.state = JobState::kAborted;
  job.error = Error(ErrorCode::kIo, "late");
  EXPECT_EQ(exit_code_of(job), ExitCode::kRolledBack);
  job.state = JobState::kFailed;
  EXPECT_EQ(exit_code_of(job), ExitCode::kFailed);
  job.error = Error(ErrorCode::kNotConverging, "slow");
  EXPECT_EQ(exit_code_of(job), ExitCode::kNotConverged);
  job.error.reset();
  EXPECT_EQ(exit_code_of(job), ExitCode::kFailed);
}

TEST(ExitCode, EveryHttpStatusIsAnErrorStatus) {
  for (int value = 0; value <= static_cast<int>(ErrorCode::kOverflow); ++value) {
    const int status = http_status_of(static_cast<ErrorCode>(value));
    EXPECT_GE(status, 400);
    EXPECT_LT(status, 600);
  }
  EXPECT_EQ(http_status_of(ErrorCode::kNotFound), 404);
  EXPECT_EQ(http_status_of(ErrorCode::kBusy), 409);
}

TEST(ExitCode, NamesOfCodesComeBack) {
  EXPECT_EQ(code_from_name("no-space"), ErrorCode::kNoSpace);
  EXPECT_EQ(code_from_name("busy"), ErrorCode::kBusy);
  EXPECT_EQ(code_from_name("from the future"), ErrorCode::kIo);
}

}  // namespace
}  // namespace blockmig

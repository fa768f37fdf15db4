// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/cli/tables.h"
#include "tools/cli/wait_for_job.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::Not;

JobStatus halfway() {
  JobStatus job;
  job.id = "job-1";
  job.disk = "vm1";
  job.phase = Phase::kCopying;
  job.passes = 2;
  job.bytes_total = 1000 * kMiB;
  job.bytes_copied = 500 * kMiB;
  job.remaining_bytes = 500 * kMiB;
  job.rate_bytes_per_second = 110 * kMiB;
  job.dirty_rate_bytes_per_second = 10 * kMiB;
  return job;
}

TEST(Progress, SaysPhasePassDoneRatesAndTimeLeft) {
  const std::string text = progress_text(halfway());
  for (const char* part : {"copying pass 2", "50 %", "500 MiB of 1000 MiB", "110 MiB/s",
                           "dirty 10 MiB/s", "left 500 MiB", "ETA 6 s"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Progress, GivesNoTimeWhereTheGuestIsFaster) {
  JobStatus job = halfway();
  job.dirty_rate_bytes_per_second = job.rate_bytes_per_second;
  EXPECT_THAT(progress_text(job), Not(HasSubstr("ETA")));
}

TEST(Progress, FractionStaysInRange) {
  JobStatus job;
  EXPECT_EQ(fraction_done(job), 0);  // preparing
  job.phase = Phase::kEnded;
  job.state = JobState::kFailed;
  EXPECT_EQ(fraction_done(job), 0);  // its target could not be opened
  job = halfway();
  EXPECT_DOUBLE_EQ(fraction_done(job), 0.5);
  job.remaining_bytes = 5000 * kMiB;  // more dirt than there was to copy
  EXPECT_EQ(fraction_done(job), 0);
  job.bytes_total = job.remaining_bytes = 0;
  EXPECT_EQ(fraction_done(job), 1);
}

TEST(Progress, BarFitsTheTerminal) {
  for (const std::size_t columns : {20, 40, 80, 200}) {
    const std::string bar = progress_bar(halfway(), {true, false, columns});
    EXPECT_LT(bar.size(), columns);
  }
  EXPECT_THAT(progress_bar(halfway(), {true, false, 200}), HasSubstr("[##########..........]"));
}

TEST(Progress, SummaryShowsTheDigestsThatThereAre) {
  JobStatus job = halfway();
  EXPECT_THAT(summary_text(job), Not(HasSubstr("digest")));
  job.source_digest = "abc";
  EXPECT_THAT(summary_text(job), HasSubstr("digest source abc\n"));
  EXPECT_THAT(summary_text(job), Not(HasSubstr("digest target")));
  job.target_digest = "def";
  EXPECT_THAT(summary_text(job), HasSubstr("digest target def (of what it took; --verify full"));
  job.read_back = true;
  EXPECT_THAT(summary_text(job), HasSubstr("digest target def\n"));
}

TEST(Progress, SummaryShowsWhatDidNotHaveToTravel) {
  JobStatus job = halfway();
  job.bytes_zero = 64 * 1024;
  EXPECT_THAT(summary_text(job), HasSubstr("not sent: 64 KiB of zeros\n"));
  job.bytes_unchanged = 2 << 20;
  job.bytes_at_rest = 3 << 20;
  const char* const all = "64 KiB of zeros, 2 MiB of holes or unchanged, 3 MiB at rest\n";
  EXPECT_THAT(summary_text(job), HasSubstr(all));
  EXPECT_THAT(job_text(job), HasSubstr(all));
}

TEST(Progress, DecisionsAreToldWithTheirReasons) {
  JobStatus job = halfway();
  EXPECT_THAT(summary_text(job), Not(HasSubstr("because")));
  job.decisions = {{1.5, "mirror -> dbt", "most writes missed"}};
  job.switchovers_postponed = 2;
  EXPECT_THAT(summary_text(job),
              HasSubstr("after 1.5 s: mirror -> dbt, because most writes missed"));
  EXPECT_THAT(summary_text(job), HasSubstr("switchovers postponed 2"));
  EXPECT_THAT(job_text(job), HasSubstr("mirror -> dbt, because most writes missed"));
  EXPECT_THAT(job_text(job), Not(HasSubstr("in between")));
  job.decisions_dropped = 7;
  EXPECT_THAT(job_text(job), HasSubstr("and 7 in between, not kept"));
}

TEST(Progress, AnUnknownOwnerIsNotCalledTheSource_I3) {
  JobStatus job = halfway();
  job.source_uri = "file:///a";
  job.target_uri = "file:///b";
  EXPECT_THAT(place_text(job), HasSubstr("is still on file:///a"));
  job.owner_unknown = true;
  EXPECT_THAT(place_text(job), HasSubstr("is on file:///a or on file:///b: keep both"));
  job.owner_unknown = false;
  job.switched = true;
  EXPECT_THAT(place_text(job), HasSubstr("is on file:///b already"));
}

TEST(Progress, TheGuestsShareOfTheLoopIsToldWhileItIsLimited) {
  JobStatus job = halfway();
  EXPECT_THAT(job_text(job), Not(HasSubstr("guest's share")));
  job.guest_share = 0.375;
  EXPECT_THAT(job_text(job), HasSubstr("38 % of the loop's time"));
}

TEST(Progress, ACopyIsNotCalledAMove) {
  JobStatus job = halfway();
  job.disk = "old.img";
  const std::string text = summary_text(job, Outcome::kCopied);
  EXPECT_THAT(text, HasSubstr(": copied "));
  EXPECT_THAT(text, Not(HasSubstr("moved")));
  EXPECT_THAT(text, Not(HasSubstr("disk 'old.img'")));
}

TEST(Progress, ABackupIsNotCalledAMove) {
  JobStatus job = halfway();
  EXPECT_THAT(summary_text(job), HasSubstr("moved from"));
  job.point_in_time = true;
  job.generations_begun = 1;
  EXPECT_THAT(summary_text(job), Not(HasSubstr("moved")));
  EXPECT_THAT(summary_text(job), HasSubstr("it stays on"));
  EXPECT_THAT(job_text(job), HasSubstr("a mixture"));
}

TEST(Progress, BarIsNotCutWithinACharacter) {
  JobStatus job = halfway();
  job.predicted_downtime_ms = 0.06;
  const std::string whole = progress_bar(job, {true, false, 500});
  const std::size_t micro = whole.find("\xc2\xb5");
  ASSERT_NE(micro, std::string::npos);
  EXPECT_EQ(progress_bar(job, {true, false, micro + 2}), whole.substr(0, micro));
  EXPECT_EQ(progress_bar(job, {true, false, micro + 3}), whole.substr(0, micro + 2));
}

TEST(Progress, ColourOnlyWhereAllowed) {
  EXPECT_THAT(progress_bar(halfway(), {true, false, 100}), Not(HasSubstr("\x1b[")));
  EXPECT_THAT(progress_bar(halfway(), {true, true, 100}), HasSubstr("\x1b["));
}

TEST(Progress, DumbTerminalsAndPipesAreNotInteractive) {
  setenv("TERM", "dumb", 1);
  EXPECT_FALSE(Terminal::of_stderr().interactive);
}

TEST(Tables, ColumnsAlignAndLinesHaveNoTail) {
  EXPECT_EQ(render_table({{"A", "B"}, {"long", "x"}, {"s", ""}}), "A     B\nlong  x\ns\n");
}

TEST(Tables, JobsShowTheirErrorWhenWide) {
  JobStatus job = halfway();
  job.state = JobState::kFailed;
  job.error = Error(ErrorCode::kNoSpace, "no room");
  EXPECT_THAT(jobs_table({job}, false), Not(HasSubstr("no room")));
  EXPECT_THAT(jobs_table({job}, true), HasSubstr("no room"));
  EXPECT_THAT(job_text(job), HasSubstr("no room"));
}

TEST(WaitForJob, LooksOftenEnoughNotToDelayTheEnd) {
  Duration poll{};
  for (int looks = 0; looks < 20; ++looks) {
    const Duration next = next_poll(poll);
    EXPECT_GT(next, Duration::zero());
    EXPECT_GE(next, poll);
    EXPECT_LE(next, kLongestPoll);
    poll = next;
  }
  EXPECT_EQ(poll, std::chrono::milliseconds(50));
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// A job's report over restarts of its daemon.
#include "tools/daemon/job_reports.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

JobStatus first_life() {
  JobStatus job;
  job.id = "job-1";
  job.elapsed_seconds = 20;
  job.guest_before = {300, 1, 2, 3};
  job.decisions = {{0.5, "dbt -> mirror", "it does not converge"}};
  job.bytes_unchanged = 4096;
  job.switchovers_postponed = 2;
  job.postponed_ms = 7;
  job.longest_request_ms = 9;
  return job;
}

TEST(JobReports, WhatWasDecidedAndSeenBeforeARestartStays) {
  JobStatus now;
  now.id = "job-1";
  now.elapsed_seconds = 3;
  now.decisions = {{1, "mirror -> dbt", "the target is slow"}};
  now.switchovers_postponed = 1;
  now.postponed_ms = 2;
  now.longest_request_ms = 4;
  const JobStatus both = joined(first_life(), now);
  EXPECT_DOUBLE_EQ(both.elapsed_seconds, 3);
  EXPECT_DOUBLE_EQ(both.earlier_seconds, 20);
  ASSERT_EQ(both.decisions.size(), 3u);
  EXPECT_EQ(both.decisions[0].what, "dbt -> mirror");
  EXPECT_EQ(both.decisions[1].what, "goes on");
  EXPECT_DOUBLE_EQ(both.decisions[1].at_seconds, 20);
  EXPECT_DOUBLE_EQ(both.decisions[2].at_seconds, 21);
  EXPECT_EQ(both.guest_before.requests, 300u);
  EXPECT_EQ(both.bytes_unchanged, 4096u);
  EXPECT_EQ(both.switchovers_postponed, 3u);
  EXPECT_DOUBLE_EQ(both.postponed_ms, 9);
  EXPECT_DOUBLE_EQ(both.longest_request_ms, 9);
}

TEST(JobReports, LivesAddUp) {
  JobStatus second;
  second.elapsed_seconds = 5;
  const JobStatus both = joined(first_life(), second);
  JobStatus third;
  third.elapsed_seconds = 1;
  third.decisions = {{0.25, "stays dbt", "it converges"}};
  const JobStatus all = joined(both, third);
  EXPECT_DOUBLE_EQ(all.earlier_seconds, 25);
  ASSERT_EQ(all.decisions.size(), 4u);
  EXPECT_DOUBLE_EQ(all.decisions[3].at_seconds, 25.25);
}

TEST(JobReports, DecisionsStayBoundedAndTheDroppedAreCounted) {
  JobStatus before = first_life();
  before.decisions.assign(kMaxDecisions, {1, "what", "why"});
  before.decisions_dropped = 5;
  JobStatus now;
  now.decisions = {{1, "the last", "why"}};
  const JobStatus both = joined(before, now);
  EXPECT_EQ(both.decisions.size(), kMaxDecisions);
  EXPECT_EQ(both.decisions.back().what, "the last");
  EXPECT_EQ(both.decisions_dropped, 7u);
}

}  // namespace
}  // namespace blockmig

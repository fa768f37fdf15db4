// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/unfinished_jobs.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

JobRecord job(const char* id, const char* disk, const char* state) {
  JobRecord record;
  record.id = id;
  record.disk = disk;
  record.state = state;
  return record;
}

TEST(UnfinishedJobs, RunningAndPausedOnesAreTakenUpOneOfEachDisk) {
  const auto found = find_unfinished(
      {job("job-1", "a", "done"), job("job-2", "a", "running"), job("job-3", "b", "paused")});
  ASSERT_EQ(found.open.size(), 2u);
  EXPECT_EQ(found.open[0].id, "job-2");
  EXPECT_EQ(found.open[1].id, "job-3");
  EXPECT_TRUE(found.stale.empty());
}

TEST(UnfinishedJobs, AJobWhoseEndWasNotRecordedDoesNotComeBackAfterALaterOne_I7) {
  // In the journal's order, which is not that of the numbers.
  const auto found = find_unfinished({job("job-10", "a", "done"), job("job-9", "a", "running")});
  EXPECT_TRUE(found.open.empty());
  ASSERT_EQ(found.stale.size(), 1u);
  EXPECT_EQ(found.stale[0].id, "job-9");
}

TEST(UnfinishedJobs, OfSeveralTheLatestIsTheOneThatWasRunning) {
  const auto found = find_unfinished({job("job-10", "a", "running"), job("job-9", "a", "running")});
  ASSERT_EQ(found.open.size(), 1u);
  EXPECT_EQ(found.open[0].id, "job-10");
}

TEST(UnfinishedJobs, OldOnesThatHaveEndedAreForgotten) {
  const std::vector<JobRecord> jobs = {job("job-1", "a", "done"), job("job-10", "a", "failed"),
                                       job("job-2", "b", "aborted"), job("job-9", "c", "done")};
  EXPECT_EQ(find_forgettable(jobs, 2), (std::vector<std::string>{"job-1", "job-2"}));
  EXPECT_TRUE(find_forgettable(jobs, 4).empty());
}

TEST(UnfinishedJobs, WhatHasNotEndedIsKeptAndSoIsTheProofThatItHas_I7) {
  const std::vector<JobRecord> jobs = {job("job-1", "a", "running"), job("job-2", "a", "done"),
                                       job("job-3", "b", "done"), job("job-4", "b", "paused")};
  EXPECT_EQ(find_forgettable(jobs, 0), (std::vector<std::string>{"job-3"}));
}

TEST(UnfinishedJobs, NumbersOfIds) {
  EXPECT_EQ(job_number("job-12"), 12u);
  EXPECT_EQ(job_number("import"), 0u);
  EXPECT_EQ(job_number("job-"), 0u);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/last_jobs.h"

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

TEST(LastJobs, AnOlderJobWhoseEndWasNotRecordedIsNotTheLast_I7) {
  const auto last = last_jobs({job("job-10", "vm1", "done"), job("job-9", "vm1", "running"),
                               job("job-3", "vm2", "paused"), job("job-2", "vm2", "failed")});
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last.at("vm1").id, "job-10");  // by number, not as text
  EXPECT_EQ(last.at("vm1").state, "done");
  EXPECT_EQ(last.at("vm2").id, "job-3");
  EXPECT_EQ(last.at("vm2").state, "paused");
}

TEST(LastJobs, NumbersAreThoseOfTheJobBoard) {
  EXPECT_EQ(job_number("job-17"), 17u);
  EXPECT_EQ(job_number("job-"), 0u);
  EXPECT_EQ(job_number("other"), 0u);
  EXPECT_EQ(job_number(""), 0u);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/seen_jobs.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace blockmig {
namespace {

JobStatus job(const std::string& id) {
  JobStatus status;
  status.id = id;
  return status;
}

TEST(SeenJobs, AJobIsFreshOnce) {
  SeenJobs seen;
  const auto [first, fresh] = seen.of("job-1");
  EXPECT_TRUE(fresh);
  first.verdict = "ready";
  const auto [again, still_fresh] = seen.of("job-1");
  EXPECT_FALSE(still_fresh);
  EXPECT_EQ(again.verdict, "ready");
}

TEST(SeenJobs, WhatIsNotListedAnyMoreIsForgottenAndTheRestIsKept) {
  SeenJobs seen;
  for (const char* id : {"job-1", "job-2", "job-3"}) seen.of(id).first.verdict = id;
  seen.keep_only({job("job-2"), job("job-3"), job("job-4")});
  seen.of("job-4");
  seen.keep_only({job("job-3"), job("job-4")});
  EXPECT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen.of("job-3").first.verdict, "job-3");
  EXPECT_TRUE(seen.of("job-1").second);
}

}  // namespace
}  // namespace blockmig

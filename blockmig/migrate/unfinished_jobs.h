// SPDX-License-Identifier: Apache-2.0
// Which of the journal's jobs a restart has to take up (I7). Pure.
//
// A disk has one job at a time, so a later one proves that those before it have ended, also where
// the journal did not take the record of their end: they must not come back and move the disk to
// where it no longer should go.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/journal/journal.h"

namespace blockmig {

inline constexpr const char* kJobIdPrefix = "job-";
/// Of "job-7": 7. 0 where it is no job's id.
std::uint64_t job_number(const std::string& id);

struct UnfinishedJobs {
  std::vector<JobRecord> open;   ///< at most one of each disk
  std::vector<JobRecord> stale;  ///< recorded as running or paused, but a later job has begun since
};
UnfinishedJobs find_unfinished(const std::vector<JobRecord>& jobs);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Which of the journal's jobs a restart has to take up (I7), and which it need not know. Pure.
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

/// The journal has them in the order of their ids as texts.
void sort_by_number(std::vector<JobRecord>& jobs);

struct UnfinishedJobs {
  std::vector<JobRecord> open;   ///< at most one of each disk
  std::vector<JobRecord> stale;  ///< recorded as running or paused, but a later job has begun since
};
UnfinishedJobs find_unfinished(const std::vector<JobRecord>& jobs);

/// Ids of those that have ended, but the latest `keep` of them. Not what proves that an earlier job
/// of its disk has ended, as above.
std::vector<std::string> find_forgettable(std::vector<JobRecord> jobs, std::size_t keep);

}  // namespace blockmig

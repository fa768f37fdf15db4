// SPDX-License-Identifier: Apache-2.0
// Which jobs a restart may go on with, from their records.
//
// A disk's next job begins when the one before it has ended (JobBoard), but a journal that failed
// at that moment may not know the end. So only a disk's youngest job can be unfinished, whatever
// the records of older ones say: their targets may be anybody's by now, the disk's own store among
// them (I3, I7). Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/journal/journal.h"

namespace blockmig {

inline constexpr std::string_view kJobIdPrefix = "job-";

/// The number of an id as JobBoard gives it; 0: it is none of those.
std::uint64_t job_number(std::string_view id);

/// The youngest job of each disk, by disk.
std::map<std::string, JobRecord> last_jobs(const std::vector<JobRecord>& records);

}  // namespace blockmig

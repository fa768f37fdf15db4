// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/unfinished_jobs.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "blockmig/base/planted.h"
#include "blockmig/migrate/job_state.h"

namespace blockmig {
namespace {

bool has_ended(const JobRecord& record) {
  return record.state != to_string(JobState::kRunning) &&
         record.state != to_string(JobState::kPaused);
}

}  // namespace

std::uint64_t job_number(const std::string& id) {
  const std::string_view prefix = kJobIdPrefix;
  if (!id.starts_with(prefix)) return 0;
  std::uint64_t number = 0;
  std::from_chars(id.data() + prefix.size(), id.data() + id.size(), number);
  return number;
}

UnfinishedJobs find_unfinished(const std::vector<JobRecord>& jobs) {
  std::map<std::string, std::uint64_t> latest;
  for (const JobRecord& job : jobs) {
    std::uint64_t& number = latest[job.disk];
    number = std::max(number, job_number(job.id));
  }
  UnfinishedJobs found;
  for (const JobRecord& job : jobs) {
    if (has_ended(job)) continue;
    const bool is_latest = job_number(job.id) == latest[job.disk];
    (is_latest || planted(PlantedBug::kStaleJobsComeBack) ? found.open : found.stale)
        .push_back(job);
  }
  return found;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/unfinished_jobs.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <set>
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

void sort_by_number(std::vector<JobRecord>& jobs) {
  std::stable_sort(jobs.begin(), jobs.end(), [](const JobRecord& a, const JobRecord& b) {
    return job_number(a.id) < job_number(b.id);
  });
}

std::vector<std::string> find_forgettable(std::vector<JobRecord> jobs, std::size_t keep) {
  sort_by_number(jobs);
  std::set<std::string> unended;  // disks that have an earlier job which has not ended
  std::vector<std::string> forgettable;
  std::size_t ended = 0;
  for (const JobRecord& job : jobs) ended += has_ended(job) ? 1 : 0;
  for (const JobRecord& job : jobs) {
    if (!has_ended(job)) {
      unended.insert(job.disk);
      continue;
    }
    const bool old = ended-- > keep;
    if (old && !unended.contains(job.disk)) forgettable.push_back(job.id);
  }
  return forgettable;
}

UnfinishedJobs find_unfinished(const std::vector<JobRecord>& jobs) {
  std::map<std::string, std::uint64_t> latest;
  const auto disk_of = [](const JobRecord& job) {
    return planted(PlantedBug::kJobsOfOtherDisksCount) ? std::string() : job.disk;
  };
  for (const JobRecord& job : jobs) {
    std::uint64_t& number = latest[disk_of(job)];
    number = std::max(number, job_number(job.id));
  }
  UnfinishedJobs found;
  for (const JobRecord& job : jobs) {
    if (has_ended(job)) continue;
    const bool is_latest = job_number(job.id) == latest[disk_of(job)];
    (is_latest || planted(PlantedBug::kStaleJobsComeBack) ? found.open : found.stale)
        .push_back(job);
  }
  return found;
}

}  // namespace blockmig

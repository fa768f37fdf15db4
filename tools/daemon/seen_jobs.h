// SPDX-License-Identifier: Apache-2.0
// SeenJobs: what was last seen of each job that is listed, for whoever reports what has changed.
// Thread rule: the loop.
#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/migrate/job_status.h"

namespace blockmig {

class SeenJobs final {
 public:
  struct Seen {
    JobState state = JobState::kRunning;
    Phase phase = Phase::kPreparing;
    std::string verdict;
  };

  /// Of a job, and whether it is seen for the first time.
  std::pair<Seen&, bool> of(const std::string& job) {
    const auto [place, fresh] = seen_.try_emplace(job);
    return {place->second, fresh};
  }
  /// A daemon that moves disks for years does not grow by what it has seen: jobs that are not
  /// `listed` any more never change again.
  void keep_only(const std::vector<JobStatus>& listed) {
    if (seen_.size() <= listed.size()) return;
    std::erase_if(seen_, [&listed](const auto& seen) {
      const auto is_it = [&seen](const JobStatus& job) { return job.id == seen.first; };
      return std::none_of(listed.begin(), listed.end(), is_it);
    });
  }
  std::size_t size() const { return seen_.size(); }

 private:
  std::map<std::string, Seen> seen_;  ///< by job
};

}  // namespace blockmig

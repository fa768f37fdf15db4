// SPDX-License-Identifier: Apache-2.0
// JobReports: what a job's report has of its lives before a restart: a job that goes on is a new
// one to the engine, and what it measured and decided before would be lost. The journal's notes of
// topic `job-report` keep it while the job runs (FORMAT.md). Thread rule: the loop.
#pragma once

#include <map>
#include <string>

#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/job_board.h"

namespace blockmig {

class JobReports final {
 public:
  /// What a crash may cost the report; a decision is saved within a second.
  static constexpr Duration kInterval = std::chrono::seconds(30);

  JobReports(EventLoop& loop, Journal& journal, const JobBoard& jobs)
      : loop_(loop), journal_(journal), jobs_(jobs) {}

  /// When the job has begun: what earlier daemons have seen of it. Nothing is not an error.
  Task<Status> load(std::string id);
  /// Saves now and then until `ended`.
  Task<void> keep(std::string id, Event& ended);
  Task<Status> save(JobStatus job);
  /// The job with what is known of its earlier lives.
  JobStatus whole(JobStatus job) const;

 private:
  EventLoop& loop_;
  Journal& journal_;
  const JobBoard& jobs_;
  std::map<std::string, JobStatus> earlier_;  ///< by job
};

/// `job` after `earlier`, the same job's report of before a restart. Pure.
JobStatus joined(const JobStatus& earlier, JobStatus job);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// EventReport: logs what changes: clients that come and go, jobs that change state, phase or
// verdict. It compares snapshots a few times a second, so that no layer below has to know about
// logs. Lifecycle: run() until cancelled. Thread rule: the loop.
#pragma once

#include <map>
#include <string>

#include "blockmig/io/cancel.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/log.h"
#include "tools/daemon/migration_service.h"

namespace blockmig {

class EventReport final {
 public:
  EventReport(EventLoop& loop, const DiskService& disks, const MigrationService& jobs, Log& log)
      : loop_(loop), disks_(disks), jobs_(jobs), log_(log) {}

  Task<void> run(CancelSource& cancel);
  /// Compares now.
  void look();

 private:
  struct SeenJob {
    JobState state = JobState::kRunning;
    Phase phase = Phase::kPreparing;
    std::string verdict;
  };

  void look_at_clients();
  void look_at_job(const JobStatus& job);

  EventLoop& loop_;
  const DiskService& disks_;
  const MigrationService& jobs_;
  Log& log_;
  std::map<std::uint64_t, ClientView> clients_;
  std::map<std::string, SeenJob> seen_jobs_;
};

}  // namespace blockmig

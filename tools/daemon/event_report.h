// SPDX-License-Identifier: Apache-2.0
// EventReport: looks a few times a second at what goes on: logs jobs that change state, phase or
// verdict, stores and a journal that fail, by comparing snapshots, so that no layer below has to
// know about logs; gives the ConnectionLog and the DiskRates their turns. Lifecycle: run() until
// cancelled. Thread rule: the loop.
#pragma once

#include <map>
#include <string>

#include "blockmig/io/cancel.h"
#include "tools/daemon/connection_log.h"
#include "tools/daemon/disk_rates.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/log.h"
#include "tools/daemon/migration_service.h"
#include "tools/daemon/seen_jobs.h"

namespace blockmig {

class EventReport final {
 public:
  EventReport(EventLoop& loop, const Journal& journal, const MigrationService& jobs,
              const DiskSet& disks, ConnectionLog& connections, DiskRates& rates, Log& log)
      : loop_(loop),
        journal_(journal),
        jobs_(jobs),
        disks_(disks),
        connections_(connections),
        rates_(rates),
        log_(log) {}

  Task<void> run(CancelSource& cancel);
  /// Compares now.
  void look();

 private:
  void look_at_journal();
  void look_at_job(const JobStatus& job);
  void look_at_store(ServedDisk& disk);

  EventLoop& loop_;
  const Journal& journal_;
  const MigrationService& jobs_;
  const DiskSet& disks_;
  ConnectionLog& connections_;
  DiskRates& rates_;
  Log& log_;
  bool seen_journal_failure_ = false;
  SeenJobs seen_jobs_;
  std::map<std::string, std::string> seen_trouble_;  ///< of a store, by disk
};

}  // namespace blockmig

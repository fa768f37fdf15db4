// SPDX-License-Identifier: Apache-2.0
// MigrationService: starts and steers migrations for the control socket. Wherever a job is named,
// the name of a disk stands for that disk's running job, or else its latest. Thread rule: the loop.
// What it refers to outlives it.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/semaphore.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/job_board.h"
#include "tools/control/backup_record.h"
#include "tools/control/messages.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/job_reports.h"
#include "tools/daemon/log.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {

class RestartService;

/// Why a job that had not switched ended with its daemon.
Error end_with_daemon(const JobRecord& record);
/// How a job of an earlier daemon, which did not go on, is shown.
JobStatus end_of_job(const JobRecord& record, JobState state, std::optional<Error> why);

class MigrationService final {
 public:
  MigrationService(IoLoop& loop, Journal& journal, DiskSet& disks, DiskService& service,
                   JobBoard& jobs, Log& log)
      : loop_(loop),
        journal_(journal),
        disks_(disks),
        service_(service),
        jobs_(jobs),
        log_(log),
        job_reports_(loop, journal, jobs),
        stopping_(loop),
        saving_(loop, 1) {}

  /// Whose stamps the stores of moves get; null: nobody's.
  void set_owners(StoreOwners* owners) { owners_ = owners; }
  /// Who knows the jobs that wait for their disks; null: there are none.
  void set_restarts(RestartService* restarts) { restarts_ = restarts; }
  /// Reads what earlier daemons of this state folder recorded about their jobs.
  Task<Status> load_history();
  /// A job of theirs has ended without having been on the board.
  void note_end(const JobStatus& job);

  /// The started job, which the journal has by then. What is wrong with the target and can be known
  /// without asking another server is an error here; the rest fails the job.
  Task<Result<JobStatus>> start(MigrateRequest request);

  /// Keeps the report of a job that somebody else started, too.
  void follow(const std::string& id) { reports_.spawn(keep_report(id, {})); }

  /// Goes on with a job of an earlier daemon, whose disk is served. After an error `recovered` is
  /// still the caller's.
  /// `target_as_left`: image_identity() of the target then, if that daemon ended in order.
  /// `resumed`: as of JobBoard::resume_recorded().
  Task<Status> resume_recorded(const JobRecord& record, RecoveredTracking& recovered,
                               std::optional<std::string> target_as_left, bool resumed);

  /// Waits until the reports of ended jobs are in the journal. After JobBoard::stop().
  Task<void> finish();

  /// Of a job that has not switched, for the log.
  std::string what_a_restart_does(const JobStatus& job) const;

  /// Newest last; those of earlier daemons first.
  std::vector<JobStatus> list() const;
  Result<JobStatus> find(const std::string& job_or_disk) const;
  /// It is not on the board yet, but will be when its disk is there.
  bool waits_for_disk(const JobStatus& job) const;
  Task<Result<JobStatus>> abort(std::string job_or_disk);
  // Effective at once, and remembered for a restart; an error of the journal says that it is not.
  Task<Result<JobStatus>> pause(std::string job_or_disk);
  Task<Result<JobStatus>> resume(std::string job_or_disk);
  Task<Result<JobStatus>> change(std::string job_or_disk, JobChange change);
  /// What all copiers may do together, in bytes per second; 0: no limit. As above.
  Task<Status> set_daemon_rate(std::uint64_t bytes_per_second);
  /// The one that was set last, unless `given`.
  Task<Status> load_daemon_rate(std::optional<std::uint64_t> given);

 private:
  /// The target, checked as far as it can be without asking another server; `hold` keeps others
  /// from it.
  Task<Result<TargetPlan>> plan_target(const MigrateRequest& request, bool resumed,
                                       std::optional<StoreReservations::Hold>& hold);
  Result<std::string> check_still_there(const std::shared_ptr<ServedDisk>& disk,
                                        const TargetPlan& plan) const;
  /// How a job reaches its target, and what was begun for it (backup_start.cc).
  struct Opening {
    std::unique_ptr<TargetOpener> opener;
    BackupRecord::Bitmap fresh;  ///< begins with a backup; no id if none does
  };
  /// `resumed`: an earlier daemon may have begun the bitmap.
  Task<Result<Opening>> make_opener(const MigrateRequest& request, const TargetPlan& plan,
                                    bool resumed);
  Task<Result<BackupRecord::Bitmap>> begin_bitmap(const MigrateRequest& request, bool resumed);
  Task<Status> find_base(Disk& disk, MigrateRequest& request);
  /// The id of a job that a command may act on.
  Result<std::string> resolve(const std::string& job_or_disk) const;
  /// The disk that the job waits for since a restart; empty: it is on the board.
  std::string disk_waited_for(const std::string& id) const;
  Task<Result<JobStatus>> set_paused(std::string job_or_disk, bool paused);
  /// Keeps a job's final report, for later daemons to show.
  /// `base_uri`: what the disk fetched from when the job began; empty: it was whole.
  Task<void> keep_report(std::string id, std::string base_uri);
  Task<void> let_bases_go(const JobStatus& job, const std::string& base_uri);
  /// What a command has made of the job, or its error.
  Result<JobStatus> status_after(const std::string& id, const Status& done) const;
  Task<Status> remember_pause(std::string id, bool paused);
  Task<Status> remember_change(std::string id);
  Task<void> forget_if_ended(std::string id);
  Task<void> remember_abort(std::string id);
  Task<void> keep_abort(std::string id, std::shared_ptr<Event> saved);
  /// What the guest's requests take once the move is over; waits for that.
  Task<bool> look_after(const JobStatus& job);
  /// Saves what its report has so far, now and then, until it has ended.
  Task<Result<JobStatus>> wait_and_keep(std::string id);
  /// With what look_after() has seen, and earlier daemons.
  JobStatus completed(JobStatus job) const;

  IoLoop& loop_;
  Journal& journal_;
  DiskSet& disks_;
  DiskService& service_;
  JobBoard& jobs_;
  Log& log_;
  StoreOwners* owners_ = nullptr;
  RestartService* restarts_ = nullptr;
  std::vector<JobStatus> history_;
  std::map<std::string, GuestLatency> latencies_after_;  ///< by job of the board
  JobReports job_reports_;
  Event stopping_;
  Semaphore saving_;                    ///< one at a time: what is saved last was said last
  std::map<std::string, bool> pauses_;  ///< by job, said and not saved yet
  TaskScope reports_;
};

}  // namespace blockmig

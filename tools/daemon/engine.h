// SPDX-License-Identifier: Apache-2.0
// Engine: the part of a daemon that lives on the loop: journal, disks, NBD server, migrations,
// reports. Lifecycle: open() first, end with shut_down(), then destroy. Thread rule: the loop's
// thread.
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "blockmig/io/cancel.h"
#include "blockmig/io/task_scope.h"
#include "tools/daemon/connection_log.h"
#include "tools/daemon/control_api.h"
#include "tools/daemon/daemon.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/event_report.h"
#include "tools/daemon/handover.h"
#include "tools/daemon/measured_journal.h"
#include "tools/daemon/metrics.h"
#include "tools/daemon/migration_service.h"
#include "tools/daemon/recorded_disks.h"
#include "tools/daemon/restart_service.h"
#include "tools/daemon/stamped_journal.h"
#include "tools/daemon/store_owners.h"
#include "tools/daemon/takeover.h"

namespace blockmig {

class Engine final {
 public:
  /// `serving_loops` run on other threads, for clients; they outlive the engine.
  Engine(IoLoop& loop, std::vector<IoLoop*> serving_loops, std::unique_ptr<Journal> journal,
         const DaemonOptions& options, Log& log, std::function<void()> on_stop_request);

  /// Listens, reads the journal, starts to report.
  Task<Status> open();
  /// As Daemon::open_inherited().
  Status open_inherited();
  Task<ControlResponse> answer(ControlRequest request);
  /// For the tasks of control requests; joined by shut_down().
  TaskScope& requests() { return requests_; }
  MetricsSnapshot metrics() const;
  /// What all jobs may copy together; 0: no limit.
  std::uint64_t bwlimit() const { return jobs_.bandwidth().rate(); }
  /// Ends everything in order, and what hangs by --stop-timeout. The first error of closing the
  /// disks; kTimedOut, naming it: something was given up.
  Task<Status> shut_down();
  /// After shut_down(): tasks of what was given up are left. The engine must not be destroyed, nor
  /// its loop run: the process is to leave.
  bool gave_up() const { return !given_up_.empty(); }
  /// After shut_down(): disks whose end failed, or has not come. What their clients were
  /// acknowledged may be lost, and they must hear of it.
  const std::set<std::string>& unclosed() const { return unclosed_; }
  /// After park() and shut_down(), the loop has ended: control requests, or disks on their way in,
  /// are left that never go on. The engine must not be destroyed; leave_journal() is another's to
  /// open, unless it says that something is at work in it still.
  bool left_behind() const;
  bool leave_journal();
  /// Stops serving without a word to the clients; then only shut_down() is left. Control requests
  /// that have not ended are not waited for: whoever asked must have been answered. kBusy, of
  /// kRefuse alone: a disk is on its way in or out. Else as NbdServer::park(): everything is as
  /// before.
  Task<Result<Handover>> park(Duration patience, Stragglers stragglers);
  /// Whether another daemon could open what is open here, asked before anything is given up for it:
  /// the journal, as check_reopening(), and whether it could go on with the moves. Those come to
  /// rest meanwhile, and go on if the answer is no, or else if park() fails. kBusy: one would end
  /// with this daemon, or does not come to rest.
  Task<Status> check_successor(Duration patience);
  /// Opens the disks that another engine has parked, as Takeover::open_disks(). After an error
  /// nothing is to be served.
  Task<Status> resume_disks(const Handover& handover, ResumedDisks which);
  /// Serves what the user names at the start, and listens, as Takeover::open_wanted(). What has
  /// come with a handover is here already. `alone`: there was none.
  Task<Status> serve_wanted(std::vector<ServeRequest> disks, bool alone);
  /// Goes on with its clients, once their disks are there: from here on there is no way back.
  Status resume_clients(const Handover& handover);

 private:
  /// Of the daemon before, and not here yet.
  std::vector<HandoverDisk> late_disks() const;
  bool comes_by_itself(const std::string& late) const;
  void warn_of_descriptors();
  /// The start comes to it after what is recorded. Of no name: to any.
  bool is_wanted_later(const std::string& disk) const;
  Task<Status> distrust_by_stamps();
  Task<Status> distrust_by_targets(const ServedDisk& served);
  Task<Result<Handover>> park_clients(Duration patience, Stragglers stragglers);
  void tell_of_moves();
  Task<void> end_moves();
  Task<void> wait_for_moves(TimePoint limit);
  void note_suspended_moves();
  Task<void> end_clients();
  void close_disks();
  Task<void> close_disk(std::string name);
  /// What is left of `scope` at `limit` is given up.
  Task<void> end_by(TimePoint limit, TaskScope& scope, const char* what);
  Task<void> end_requests(TimePoint limit);
  Task<void> leave_requests();
  Task<void> end_arrivals(TimePoint limit);
  Task<void> give_up_stores(CancelSource& ended);
  /// Nobody writes to it any more: what keeps records of it true goes.
  Task<void> leave_disk(Disk& disk);
  /// Once for each: from now on some of its writes fail.
  void warn_of_failing_writes(const std::string& disk);
  DaemonView describe() const;
  Status open_inherited(InheritedSocket socket);
  /// Serves one client; then asks for the end if it is `last`.
  Task<void> serve_inherited(std::unique_ptr<Stream> stream, bool last);

  IoLoop& loop_;
  std::unique_ptr<MeasuredJournal> journal_;  ///< null after leave_journal()
  DaemonOptions options_;
  Log& log_;
  TimePoint started_;
  ConnectionLog connections_;
  StoreOwners owners_;
  DiskSet disks_;
  std::set<std::string> failing_writes_;
  JobBoard jobs_;
  std::unique_ptr<NbdServer> server_;
  DiskService disk_service_;
  MigrationService migrations_;
  RestartService restarts_;
  RecordedDisks recorded_;
  Takeover takeover_;
  bool wanted_have_come_ = false;  ///< serve_wanted() was called
  ControlApi api_;
  std::function<void()> on_stop_request_;
  EventReport report_;
  CancelSource report_end_;
  TaskScope reports_;
  TaskScope inherited_;
  TaskScope requests_;
  std::list<std::string> asked_;  ///< control requests under way
  bool parked_ = false;           ///< guests wait for another daemon
  TaskScope ending_clients_;
  TaskScope ending_moves_;
  TaskScope ending_disks_;
  Status closed_;
  std::set<std::string> unclosed_;
  std::vector<std::string> given_up_;
};

}  // namespace blockmig

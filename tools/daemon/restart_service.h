// SPDX-License-Identifier: Apache-2.0
// RestartService: what a daemon takes up again after the end of the one before it.
//
//   load()            which jobs had not ended (the journal is read, nothing is served yet)
//   prepare(disk)     before a disk's first client: its job's recorded tracking is attached again,
//                     or the record is made void, because from now on there are writes (I5), or
//                     because somebody else may have written to the disk
//   published(disk)   the job goes on, waits, or ends, as its options say
//   serve_recorded()  every disk that was served is served again, side by side; one whose store
//                     hangs arrives later: the others wait for it some seconds, to come in order
//
// A disk or job that cannot be taken up is logged and left as it is, or recorded as failed.
// Thread rule: the loop. What it refers to outlives it; finish() before it is destroyed.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/job_state.h"
#include "tools/control/messages.h"
#include "tools/daemon/closed_move.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/log.h"

namespace blockmig {

class DiskService;
struct Listening;
class MigrationService;
class StoreOwners;

class RestartService final {
 public:
  static constexpr Duration kRestorePatience = std::chrono::seconds(5);
  /// And how long for those that were served before: the others must be in time.
  static constexpr Duration kOrderPatience = std::chrono::seconds(3);

  RestartService(EventLoop& loop, Journal& journal, DiskSet& disks, MigrationService& migrations,
                 Log& log)
      : loop_(loop),
        journal_(journal),
        disks_(disks),
        migrations_(migrations),
        log_(log),
        arrived_(loop) {}

  /// Whose stamps the targets of moves have that do not go on; null: nobody's.
  void set_owners(StoreOwners* owners) { owners_ = owners; }
  Task<Status> load();
  /// Waits for those that arrive within kRestorePatience.
  Task<void> serve_recorded(DiskService& service, std::vector<std::string> except);

  /// `same_store`: nobody else has had it since this journal last did, and its place would say so.
  Task<Status> prepare(Disk& disk, bool same_store);
  void published(const std::string& disk);
  /// The disk of prepare() will not have clients after all. Its job's record stays.
  Task<void> withdrawn(Disk& disk);
  /// The move of that disk that is to go on, until it does or has failed to; empty: there is none.
  std::string job_to_take_up(const std::string& disk) const;
  /// From here on nothing is published, and no job goes on: their records stay for the next start.
  Task<void> finish() {
    leaving_ = true;
    arrived_.pulse();
    co_await resuming_.join();
  }
  /// Of disks that are served again; to be joined after finish().
  TaskScope& restoring() { return restoring_; }
  const TaskScope& restoring() const { return restoring_; }
  /// What was served before and is about to be served again.
  const std::map<std::string, ServeRequest>& arriving() const { return arriving_; }
  /// A restored disk takes its place after those before it, so that disks and listeners come in one
  /// order; not after those that are late. kShutdown: not any more.
  Task<Status> wait_for_earlier(const std::string& disk);
  /// The journal may hold region sets of a job of that disk that is not on the board (yet).
  bool may_have_record(const std::string& disk) const;
  /// As JobBoard::leave_disk().
  Task<void> leave_disk(Disk& disk);

 private:
  /// A job that had not ended, and what prepare() found of it.
  struct Unfinished {
    JobRecord record;
    RecoveredTracking tracking;
    std::optional<ClosedMove> closed;  ///< its daemon ended in order
    bool prepared = false;
  };
  Task<void> serve_again(DiskService& service, NoteRecord note, std::vector<NoteRecord> listened);
  /// It is served; until `until` its addresses are tried, which somebody may have for a moment
  /// still.
  Task<void> listen_once_free(DiskService& service, ServeRequest request, Listening listening,
                              TimePoint until);
  /// `request`'s disk, whose image somebody may have for a moment still.
  Task<Status> serve_once_free(DiskService& service, ServeRequest request, Listening listening,
                               TimePoint until);
  Task<Status> take_up(Unfinished& job, Disk& disk, bool same_store);
  Task<Status> make_void(const Unfinished& job, const std::string& why);
  Task<void> take_up_again(Unfinished job);
  Task<void> resume(Unfinished job);
  Task<Status> record_end(JobRecord record, JobState state);

  EventLoop& loop_;
  Journal& journal_;
  DiskSet& disks_;
  MigrationService& migrations_;
  Log& log_;
  StoreOwners* owners_ = nullptr;
  std::map<std::string, Unfinished> unfinished_;  ///< by disk
  std::map<std::string, std::string> taken_up_;   ///< job by disk, between the above and the board
  /// Of jobs that did not go on, by disk, where their record may still be believed.
  std::vector<std::pair<std::string, RecoveredTracking>> kept_;
  TaskScope resuming_;
  std::map<std::string, ServeRequest> arriving_;
  std::set<std::string> held_;     ///< of those: nobody waits for them
  std::size_t listening_ = 0;      ///< are served, and wait for their addresses
  TimePoint in_order_by_{};        ///< nobody waits for the late any more
  bool default_listener_ = false;  ///< the first of them opens it, though it may be late
  Event arrived_;                  ///< pulsed when one has, or has failed to
  TaskScope restoring_;
  bool leaving_ = false;
};

}  // namespace blockmig

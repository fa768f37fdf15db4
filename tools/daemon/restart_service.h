// SPDX-License-Identifier: Apache-2.0
// RestartService: the moves that a daemon takes up again after the end of the one before it.
//
//   load()            which jobs had not ended (the journal is read, nothing is served yet)
//   prepare(disk)     before a disk's first client: its job's recorded tracking is attached again,
//                     or the record is made void, because from now on there are writes (I5), or
//                     because somebody else may have written to the disk
//   published(disk)   the job goes on, waits, or ends, as its options say
//
// Until its disk is there a job that is to go on waits, is shown so, and may be paused or aborted.
// A job that cannot be taken up is logged and left as it is, or recorded as failed. The disks
// themselves come by RecordedDisks.
// Thread rule: the loop. What it refers to outlives it; finish() before it is destroyed.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/job_state.h"
#include "tools/daemon/closed_move.h"
#include "tools/daemon/disk_set.h"
#include "tools/daemon/log.h"

namespace blockmig {

class MigrationService;
class ServedDisk;
struct JobStatus;
class StoreOwners;

class RestartService final {
 public:
  RestartService(EventLoop& loop, Journal& journal, DiskSet& disks, MigrationService& migrations,
                 Log& log)
      : loop_(loop), journal_(journal), disks_(disks), migrations_(migrations), log_(log) {}

  /// Whose stamps the targets of moves have that do not go on; null: nobody's.
  void set_owners(StoreOwners* owners) { owners_ = owners; }
  Task<Status> load();

  /// `same_store`: nobody else has had it since this journal last did, and its place would say so.
  Task<Status> prepare(Disk& disk, bool same_store);
  void published(const std::string& disk);
  /// The disk of prepare() will not have clients after all. Its job's record stays.
  Task<void> withdrawn(Disk& disk);
  /// The move of that disk that is to go on, until it does or has failed to; empty: there is none.
  std::string job_to_take_up(const std::string& disk) const;
  /// A job that is to go on when its disk is there, as it is shown until then; `why`: why that is
  /// not served yet, if that is known. Another one stays as it is.
  void show(JobStatus& job, const std::string& why) const;
  /// Ends a job that waits for its disk, as --on-restart abort would when that is there. kBusy:
  /// that is just coming. kPrecondition: the disk has switched.
  Task<Status> abort(std::string disk);
  /// Ends what does not go on, for a disk that is not to come any more. Another job stays.
  Task<Status> end_without_disk(std::string disk);
  /// As it is to begin when its disk is there. kBusy as above.
  Task<Status> set_paused(std::string disk, bool paused);
  /// Before anybody may move the disk: a return that ended with its daemon has left the old store
  /// as one that the disk may still return to.
  Task<void> end_return(ServedDisk& disk);
  /// Jobs whose disks are there wait all the same, until go_on().
  void wait() { waiting_ = true; }
  void go_on();
  /// From here on nothing is published, and no job goes on: their records stay for the next start.
  Task<void> finish();
  /// After finish(): disks, with the targets of those of their moves that nobody has gone on with.
  std::vector<std::pair<std::string, std::string>> left() const;
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
    bool in_use = false;               ///< by a task that has not ended yet
    bool switched = false;             ///< before the daemon's end
    bool paused = false;               ///< by an operator
    bool resumed = false;              ///< likewise, since the restart
    bool returned = false;             ///< has ended but for end_return()
    JobState end = JobState::kFailed;  ///< as what it ends if it does not go on
  };
  static bool goes_on(const JobRecord& record);
  /// --on-restart pause
  static bool waits_for_operator(const JobRecord& record);
  static JournalBatch batch_of_end(JobRecord record, JobState state);
  Task<Status> load_facts(Unfinished& job);
  Task<Result<bool>> has_switched(const JobRecord& record);
  Task<Status> prepare_job(Unfinished& job, Disk& disk, bool same_store);
  Task<Status> end_unserved(Unfinished& job);
  Task<bool> is_target_as_left(const JobRecord& record);
  /// It waits for its disk, and nobody is at work with it; else kBusy.
  Result<Unfinished*> find_waiting(const std::string& disk);
  Task<Status> take_up(Unfinished& job, Disk& disk, bool same_store);
  Task<Status> make_void(const Unfinished& job, const std::string& why);
  Task<void> take_up_again(Unfinished job);
  Task<void> resume(Unfinished job);
  /// `why`: its last word; nothing where it is done.
  Task<Status> record_end(JobRecord record, JobState state, std::optional<Error> why);

  EventLoop& loop_;
  Journal& journal_;
  DiskSet& disks_;
  MigrationService& migrations_;
  Log& log_;
  StoreOwners* owners_ = nullptr;
  std::map<std::string, Unfinished> unfinished_;  ///< by disk
  std::map<std::string, std::string> taken_up_;   ///< job by disk, between the above and the board
  /// Of a job that did not go on, where its record may still be believed.
  struct Kept {
    std::string disk;
    std::string target_uri;  ///< empty: it has ended
    RecoveredTracking tracking;
  };
  void keep(Unfinished job);
  std::vector<Kept> kept_;
  std::vector<Unfinished> held_;  ///< published, and not to go on yet
  TaskScope resuming_;
  bool waiting_ = false;
  bool leaving_ = false;
};

}  // namespace blockmig

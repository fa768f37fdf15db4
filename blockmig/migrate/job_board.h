// SPDX-License-Identifier: Apache-2.0
// JobBoard: the migrations of one daemon: starts them, finds them, remembers the ended ones.
//
// At most one job runs per disk. What an aborted job leaves behind (a frozen target that does not
// let go) is kept here until it lets go, so that abort itself returns at once (I10); until then it
// is unanswered(), and nobody else's target (I9).
//
// Lifecycle, before destruction: stop() ends what is before its decision and waits for the rest;
// then, once nobody writes to the disks any more, leave_disks(). Thread rule: the disks' loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "blockmig/disk/disk.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/bandwidth_pool.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/job_status.h"
#include "blockmig/migrate/leftovers.h"
#include "blockmig/migrate/target_opener.h"

namespace blockmig {

class HydratingDevice;
class Job;

class JobBoard final {
 public:
  JobBoard(EventLoop& loop, Journal& journal);
  ~JobBoard();

  /// Before the first start(): numbers new jobs after those the journal remembers.
  Task<Status> load();
  /// Starts a migration of `disk`, which outlives the board's stop(). The job's id.
  /// kBusy: the disk is being migrated already (names the job), or a move of an earlier daemon is
  /// still to be taken up. kInvalid: options. kPrecondition:
  /// the disk still fetches from a base, and the move might leave it behind (may_pivot()).
  /// `request` is kept for a restart, opaque here.
  Result<std::string> start(Disk& disk, std::unique_ptr<TargetOpener> target,
                            const JobOptions& options, std::string request = {});
  /// Goes on with a job that an earlier daemon left, under its id. `recovered` from recover(), made
  /// before the disk had clients; empty: from the beginning. As start() otherwise; then the caller
  /// keeps what was recovered. `resumed`: an operator has said so since the restart, so that it
  /// does not wait (OnRestart::kPause).
  Result<std::string> resume_recorded(Disk& disk, std::unique_ptr<TargetOpener> target,
                                      const JobOptions& options, const JobRecord& record,
                                      RecoveredTracking& recovered, bool resumed = false);

  /// kBusy: what whoever wants something of a disk is told that has a job.
  Error busy_with(const std::string& disk) const;

  /// Goes on with the hydration of a disk that was opened in the middle of it. The job's id.
  /// `request` as at start(), `paused`: an operator wants it to wait; `begins`: it has not been cut
  /// off, the rest is to be fetched from now on. kBusy as there.
  Result<std::string> hydrate(Disk& disk, HydratingDevice& hydrating, const JobOptions& options,
                              std::string request = {}, bool paused = false, bool begins = false);

  /// Ends a hydration for now; it goes on with hydrate(). Nothing where there is none.
  void interrupt(const std::string& id);

  /// kNotFound if there is no such job; kPrecondition where the state does not allow it.
  Status abort(const std::string& id);
  Status pause(const std::string& id);
  Status resume(const std::string& id);
  Status change(const std::string& id, const JobChange& change);
  /// What the copiers of all jobs may do together.
  BandwidthPool& bandwidth() { return bandwidth_; }
  const BandwidthPool& bandwidth() const { return bandwidth_; }

  Result<JobStatus> status(const std::string& id) const;
  /// As given at the start; empty where there is no such job.
  std::string request_of(const std::string& id) const;
  /// Of the disk's jobs of which the journal may hold region sets, which a restart would believe.
  std::vector<std::string> recorded_targets(const std::string& disk) const;
  /// Newest last; of those that have ended the last kEndedJobsKept.
  std::vector<JobStatus> list() const;
  /// The running job of a disk, or empty.
  std::string job_of(const std::string& disk) const;
  /// Resumes when the journal has the job, or it has ended: only then may its start be answered.
  Task<Result<JobStatus>> wait_begun(const std::string& id);
  /// Resumes when the job has ended.
  Task<Result<JobStatus>> wait(const std::string& id);

  /// Where jobs that have ended may still write.
  std::vector<Unanswered::Place> unanswered() const;
  /// Returns when nobody may at `uri`, or after `patience`.
  Task<void> wait_answered(std::string uri, Duration patience);

  /// Whether every job goes on after a stop(kSuspend). kBusy, naming it: one would end.
  Status check_leaving() const;
  /// Before the stop(kSuspend) of a daemon whose place another one is to take, while clients are
  /// served still: from here on nobody waits for a job (Job::yield()), and none begins. kBusy,
  /// naming it: one has not come to rest within `patience`. stay(): all go on.
  Task<Status> yield(Duration patience);
  void stay();
  /// Before the stop(kSuspend) of a daemon that ends: jobs that go on after a restart come to rest
  /// and record how far they are, as far as their targets answer within `patience`. The others go
  /// on from what they have recorded before.
  Task<void> record_progress(Duration patience);
  /// Stores that have not answered jobs are all that is waited for.
  bool all_ended() const;

  /// What becomes of jobs before their decision.
  enum class AtStop : unsigned char {
    kAbort,
    kSuspend,  ///< those that a restart goes on with are left to it
  };
  /// Targets get kAnswersAtStop to answer what they have been sent.
  Task<void> stop(AtStop what = AtStop::kAbort);
  /// Jobs whose records may be believed by a restart keep them true as long as their disks are
  /// written to: until here.
  Task<void> leave_disks();
  /// Likewise of one disk, which ends while the others go on.
  Task<void> leave_disk(std::string disk);

  /// A daemon that moves disks for years does not grow by its memories: the journal has them all.
  static constexpr std::size_t kEndedJobsKept = 128;
  static constexpr Duration kAnswersAtStop = std::chrono::seconds(2);

 private:
  /// `recovered`: the tracking that the disk may have on.
  Status check_start(Disk& disk, const JobOptions& options,
                     const DirtyBitmap* recovered = nullptr) const;
  /// A way back can be recorded. A move that goes on goes on without one where it cannot.
  static Status check_record(Disk& disk, const JobOptions& options);
  Status check_free(Disk& disk, const DirtyBitmap* recovered = nullptr) const;
  void launch(std::shared_ptr<Job> job);
  void forget_oldest();
  Job* find(const std::string& id) const;
  std::shared_ptr<Job> share(const std::string& id) const;
  Task<void> cut_unanswered(Event& all_ended);
  /// Each of `jobs` records how far it is as soon as it has come to rest, until `deadline`.
  Task<void> rest_and_record(std::vector<std::shared_ptr<Job>> jobs, TimePoint deadline);
  /// kBusy: the first that does not rest by `deadline`, or is still recording.
  Task<Status> name_restless(TimePoint deadline);

  EventLoop& loop_;
  Journal& journal_;
  BandwidthPool bandwidth_;
  JobLeftovers leftovers_;
  TaskScope scope_;
  std::vector<std::shared_ptr<Job>> jobs_;  ///< shared with who waits for them
  std::uint64_t next_id_ = 1;
  bool stopping_ = false;
  bool yields_ = false;
};

}  // namespace blockmig

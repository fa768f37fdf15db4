// SPDX-License-Identifier: Apache-2.0
// Job: one migration of one disk, from the first check to the last clean-up.
//
// Lifecycle: run() is spawned once by the JobBoard; it ends in a final state and leaves nothing
// attached to the disk. abort(), pause(), resume() act at once and never wait for a device (I10).
// Thread rule: the disk's loop.
#pragma once

#include <memory>
#include <string>

#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/guest_pace.h"
#include "blockmig/migrate/job_status.h"
#include "blockmig/migrate/leftovers.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/rate_meter.h"
#include "blockmig/migrate/target_opener.h"

namespace blockmig {

class Job final {
 public:
  /// `leftovers` outlives the job: what a frozen target still holds ends there.
  /// `request`: what a restart starts it again with.
  Job(EventLoop& loop, Journal& journal, BandwidthPool& bandwidth, Disk& disk,
      std::shared_ptr<TargetOpener> opener, std::string id, const JobOptions& options,
      std::string request, JobLeftovers& leftovers);
  /// A job that a restart finds in mid-hydration: the disk's store is `hydrating`.
  Job(EventLoop& loop, Journal& journal, BandwidthPool& bandwidth, Disk& disk,
      HydratingDevice& hydrating, const JobOptions& options, std::string request,
      JobLeftovers& leftovers);
  ~Job();

  /// Before run(): the job goes on where an earlier daemon left it, as its next attempt.
  void go_on(RecoveredTracking recovered, const JobRecord& record);
  /// Before run(): it waits until an operator resumes it.
  void begin_paused(std::string because);
  /// Before run(): that an earlier life of it was cut off there.
  void note_interruption(Phase phase) { migration_.status.interrupted_in = to_string(phase); }
  Task<void> run();
  /// The daemon stops: a hydration ends here and goes on when the disk is served again.
  void interrupt() {
    migration_.share.release();
    if (migration_.push_rate) migration_.push_rate->set_rate(0);
    migration_.interrupt.set();
  }

  /// kPrecondition when the decision has been made, or the job has ended.
  Status abort();
  /// As abort(), for a daemon that ends in order: the target and what is recorded of the job stay,
  /// so that a restart goes on with it. Writes keep the record true until leave_disk().
  Status suspend();
  /// After the job has ended, when nobody writes to its disk any more.
  Task<void> leave_disk();
  Status pause();
  Status resume();
  Status change(const JobChange& change);

  /// Another daemon is to take this one's place (job_yield.cc): from here on nobody waits for the
  /// job. It copies and decides nothing, and is shown as before. Until stay(), or suspend().
  void yield();
  void stay();
  /// Why it cannot be suspended at once; empty: it can.
  std::string unrest() const;
  /// Records how far it is, where that is recorded at all, soon: until then is_recording().
  void record_now();
  bool is_recording() const { return record_wanted_ && !ended(); }

  const std::string& request() const { return migration_.request; }
  const std::string& id() const { return migration_.status.id; }
  const std::string& disk_name() const { return migration_.status.disk; }
  bool ended() const { return ended_.is_set(); }
  /// It has ended, and its record may still be believed.
  bool keeps_record() const { return !kept_.empty(); }
  /// A daemon that ends leaves it to the next one.
  bool goes_on_after_restart() const {
    return migration_.options.on_restart != OnRestart::kAbort && !migration_.request.empty();
  }
  /// Set when a restart would know of the job, or it has ended: from then on it may be promised.
  Event& begun_event() { return begun_; }
  Event& ended_event() { return ended_; }
  JobStatus status() const;

 private:
  Task<Status> migrate();
  Task<void> sample();
  Task<void> record_progress();
  void take_sample();
  /// Of what moves data now.
  std::uint64_t rate_now() const {
    return (migration_.hydrating != nullptr ? hydrated_rate_ : copied_rate_).bytes_per_second();
  }
  void set_pace();
  void note_fallback();
  Task<void> clean_up(const Status& result);
  void leave_target();
  void leave_old_store();
  Task<void> end_tracking();
  void finish(const Status& result);
  Task<Status> record(const std::string& state);
  void capture(JobStatus& status) const;

  Migration migration_;
  JobLeftovers& leftovers_;
  bool over_ = false;       ///< what it came to is known
  RecoveredTracking kept_;  ///< of a job that has ended, while its record may be believed
  Event begun_;
  Event ended_;
  Event stop_sampling_;
  Event record_soon_;  ///< pulsed when record_progress() is not to wait any longer
  bool record_wanted_ = false;
  TimePoint ended_at_{};
  GuestPace guest_;
  RateMeter copied_rate_;
  RateMeter hydrated_rate_;
  RateMeter dirtied_rate_;
};

}  // namespace blockmig

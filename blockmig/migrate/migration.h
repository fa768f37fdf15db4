// SPDX-License-Identifier: Apache-2.0
// Migration: the parts of one running job, as the modes and the switchover share them.
//
// Owned by the Job; filled by open_target() and arm_and_scan() (prepare.h), or for a
// hydration by its constructor. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "blockmig/base/latency_histogram.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/bandwidth_pool.h"
#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/chunk_order.h"
#include "blockmig/migrate/convergence.h"
#include "blockmig/migrate/copy_engine.h"
#include "blockmig/migrate/generation.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/hydration_digests.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/job_status.h"
#include "blockmig/migrate/merge_target.h"
#include "blockmig/migrate/mirror.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/sync_state.h"
#include "blockmig/migrate/target_opener.h"

namespace blockmig {

/// A switchover before everything is copied: what the journal is told about the rest.
struct Pivot {
  HydrationRecord record;
  std::unique_ptr<PresenceMap> map;  ///< as it was looked at last; from the fence on exact
  std::set<std::uint32_t> unsaved;   ///< its containers of which the journal may say otherwise
  bool writable = false;             ///< the target has taken a test write
};

/// A disk on its way back into the image that it fetches from.
struct Settling {
  RestMerge* merge = nullptr;        ///< the opener's
  HydratingDevice* layer = nullptr;  ///< the disk's store until the decision, then `old_store`
  MergeTarget* target = nullptr;     ///< the replica's
  RestMerge::Facts facts;
  std::uint64_t writes_at_decision = 0;  ///< of the guest
};

/// The target's troubles (target_trouble.h).
struct TroubleRecord {
  TimePoint began{};
  TimePoint ended{};
  std::uint64_t times = 0;
  bool lasts = false;
  unsigned failures = 0;  ///< of tries to get over it
};

struct Migration {
  Migration(EventLoop& event_loop, Disk& migrated_disk, Journal& disk_journal, BandwidthPool& pool,
            const JobOptions& job_options)
      : loop(event_loop),
        disk(migrated_disk),
        journal(disk_journal),
        options(job_options),
        cancel(event_loop),
        share(pool, job_options.priority),
        interrupt(event_loop),
        wake(event_loop) {}

  EventLoop& loop;
  const TimePoint begun = loop.now();  ///< of the job
  Disk& disk;
  Journal& journal;
  JobOptions options;
  CancelSource cancel;
  BandwidthShare share;  ///< of what all jobs may copy
  JobStatus status;

  std::unique_ptr<Replica> replica;
  std::unique_ptr<SyncState> sync;
  std::unique_ptr<ChunkOrder> order;
  std::unique_ptr<CopyEngine> engine;
  std::unique_ptr<Mirror> mirror;             ///< from the moment the mode attaches it
  std::unique_ptr<JobCheckpoint> checkpoint;  ///< null: nothing is recorded
  RecoveredTracking recovered;                ///< until arm_and_scan()
  std::string request;  ///< what a restart starts the job again with, opaque here
  std::unique_ptr<Generation> generation;  ///< of `snapshot`, while it is copied
  std::shared_ptr<TargetOpener> opener;

  std::vector<PassRecord> passes;
  unsigned postponed = 0;  ///< switchovers that took too long, since the last step taken against it
  std::uint64_t guest_rate_before_throttle = 0;  ///< bytes per second; 0: not throttled
  std::uint64_t guest_limit = 0;                 ///< that it is throttled to while the job copies
  std::uint64_t mirror_pace = 0;                 ///< that the mirror paces its writes to, likewise
  Duration flush_cost{};      ///< the target's last flush, as it was without a fence's deadline
  unsigned slow_flushes = 0;  ///< switchovers in a row that this left no time for
  std::unique_ptr<BlockDevice> old_store;  ///< after the decision
  std::unique_ptr<Pivot> pivot;            ///< from the moment a mode asks for one
  DataAtRest* at_rest = nullptr;           ///< mode `shared`: the opener's
  HydratingDevice* hydrating = nullptr;    ///< the disk's store, while there is one
  Settling settling;                       ///< mode `settle`
  std::unique_ptr<TokenBucket> push_rate;  ///< of the hydration in the background
  /// While the disk hydrates, if it is verified.
  std::unique_ptr<HydrationDigests> hydration_digests;
  Event interrupt;  ///< the daemon stops: hydration goes on when the disk is served again
  TroubleRecord trouble;
  std::uint64_t losses_seen = 0;  ///< of the replica's, that the mode has acted on
  Event wake;                     ///< pulsed when an operator pauses, resumes or aborts
  bool paused_by_user = false;
  std::uint64_t pauses = 0;                                 ///< that an operator has asked for
  std::string pause_asked_by = "an operator asked for it";  ///< or the options did
  bool held = false;                                        ///< paused by the target's trouble
  bool yields = false;  ///< another daemon is taking this one's place: as if it were paused
  std::optional<Phase> recorded_phase;  ///< as far as it is known
  bool suspended = false;    ///< ends with its daemon, and goes on with the next: records stay
  bool deciding = false;     ///< the decision is being written: too late to abort
  bool decided = false;      ///< the target owns the disk
  bool keep_target = false;  ///< it is what was asked for, though it owns nothing

  /// It copies nothing, decides nothing and holds no guest back.
  bool waits() const { return paused_by_user || yields; }
};

/// What the journal keeps of the job.
JobRecord record_of_job(const Migration& migration, std::string state);

/// The journal has the phase that the job is in.
bool phase_is_recorded(const Migration& migration);
/// What it is to have of a job that goes on.
JobRecord record_of_phase(const Migration& migration);

/// Brings the job's state and the reason in its status in line with who wants it paused.
void show_pause(Migration& migration);

/// Brings what holds the guest back in line with whether the job copies: while an operator has
/// paused it, or its target is in trouble, nothing is gained by a write that waits.
void limit_guest(Migration& migration);

/// Until no operator wants the job to wait, or it is aborted. What moves the disk, and what judges
/// its pace, comes after this.
Task<void> wait_while_paused(Migration& migration);

/// How often in a row the source is tried after errors that are worth that.
inline constexpr unsigned kSourceAttempts = 5;
/// Worth another try at once; everything else either lasts or was asked for.
bool is_transient(const Error& error);

/// Of the generation, if there is one: bytes to copy that are not in the job's bitmap.
std::uint64_t pending_bytes(const Migration& migration);

/// Runs one pass of the engine and records what it did in `migration.passes`. The target's errors
/// are outlasted as the options say (target_trouble.h), the source's tried again a few times;
/// kCancelled and everything that lasts come back. A pass that was paused says nothing about rates:
/// another one follows, which is the one recorded.
Task<Status> copy_pass(Migration& migration);

/// What the policy says about the passes so far; also kept in the status. `fixed_cost`: what the
/// switchover costs besides the last copy, where it has just been measured.
Judgement judge(Migration& migration, Duration fixed_cost);

/// Remembers what the job decided by itself and why, for its report.
void note_decision(Migration& migration, std::string what, std::string why);

/// What the target took in the last pass, copied and mirrored, in bytes per second.
std::uint64_t target_rate(const Migration& migration);

/// The mirror's own means against a catch-up without headway: paces the guest's writes within the
/// deadline, to half and then a quarter of what the target takes. False when `steps` are used up.
inline constexpr unsigned kPaceSteps = 2;
bool pace_guest(Migration& migration, const Judgement& judgement, unsigned& steps);

/// Under --on-stall throttle: the next step against a guest that writes faster than the target
/// takes it, from what the last pass measured.
void throttle_guest(Migration& migration);

/// Passes make no headway: what the user chose for that. `mode`: its name, for the report. True:
/// another mode has taken over and switched; false: go on.
Task<Result<bool>> act_on_stall(Migration& migration, std::string mode, std::string reason);

/// Passes until it has switched over, where neither a mirror (of part of a disk is none) nor a
/// switchover ahead of time (what was written cannot stay behind) is possible: a guest that is too
/// fast is held back, or the job ends.
Task<Status> copy_without_mirror(Migration& migration);

/// Waits a little, longer each time, before the next try of something that did not work out;
/// returns early when cancelled.
Task<void> back_off(Migration& migration, unsigned attempt);

/// The one that the options ask for.
Task<Status> run_mode(Migration& migration);

// The modes, a file each (mode_*.cc). Each returns success when the switchover is done.
Task<Status> run_cold(Migration& migration);
Task<Status> run_dbt(Migration& migration);
Task<Status> run_mirror(Migration& migration);
Task<Status> run_auto(Migration& migration);
Task<Status> run_snapshot(Migration& migration);
/// Success: the target is a backup, and the disk is where it was.
Task<Status> run_point_in_time(Migration& migration);
Task<Status> run_postcopy(Migration& migration);
Task<Status> run_shared(Migration& migration);
Task<Status> run_hybrid(Migration& migration);
Task<Status> run_settle(Migration& migration);

}  // namespace blockmig

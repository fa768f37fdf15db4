// SPDX-License-Identifier: Apache-2.0
// JobStatus: what can be seen of a migration, running or ended. Values; a copy is made when asked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/job_state.h"

namespace blockmig {

/// Something that a running job decided by itself, with the numbers that it rests on.
struct Decision {
  double at_seconds = 0;  ///< since the job began
  std::string what;       ///< "mirror -> dbt"
  std::string why;
  friend bool operator==(const Decision&, const Decision&) = default;
};
/// Of so many the first half is kept, and the latest; what was in between is dropped.
inline constexpr std::size_t kMaxDecisions = 64;

/// What requests of the guest took.
struct GuestLatency {
  std::uint64_t requests = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double max_ms = 0;
};

struct JobStatus {
  std::string id;
  std::string disk;
  Mode mode = Mode::kMirror;         ///< as asked
  Mode active_mode = Mode::kMirror;  ///< now: dbt may have become mirror
  JobState state = JobState::kRunning;
  Phase phase = Phase::kPreparing;
  std::string source_uri;
  std::string target_uri;
  std::uint64_t attempt = 0;
  std::uint64_t epoch = 0;  ///< of the disk, after the switchover the new one

  std::optional<Error> error;  ///< why it failed, or why it is held up
  std::string paused_because;  ///< who asked for it, or what the target said
  std::string verdict;         ///< last word of the convergence policy, with its numbers

  std::uint64_t size_bytes = 0;
  std::uint64_t bytes_total = 0;              ///< to copy in the first pass
  std::uint64_t bytes_unchanged = 0;          ///< of the disk: holes, or at the target already
  std::uint64_t bytes_at_rest = 0;            ///< left in the folder (mode shared)
  std::uint64_t bytes_copied = 0;             ///< by the copier, all passes
  std::uint64_t bytes_copied_first_pass = 0;  ///< of these
  std::uint64_t bytes_mirrored = 0;           ///< by the guest's writes
  std::uint64_t bytes_zero = 0;               ///< zeros that did not travel
  std::uint64_t remaining_bytes = 0;
  std::uint64_t passes = 0;
  std::uint64_t catch_up_rounds = 0;  ///< after the pass of `mirror`, over what it could not mirror
  std::uint64_t rate_bytes_per_second = 0;        ///< copier, last second
  std::uint64_t dirty_rate_bytes_per_second = 0;  ///< guest, last second, whole chunks
  std::uint64_t throttle_bytes_per_second = 0;    ///< guest's limit; 0 = none
  std::uint64_t bwlimit_bytes_per_second = 0;
  Priority priority = Priority::kNormal;
  double max_downtime_ms = 0;
  std::uint64_t mirror_deadline_misses = 0;
  std::uint64_t mirror_fallbacks = 0;  ///< times that writes were tracked for missing deadlines
  double longest_mirror_wait_ms = 0;   ///< that the mirror added to one write
  std::uint64_t target_errors = 0;     ///< requests that the target failed
  std::uint64_t target_losses = 0;     ///< times that it may have lost what it had not made durable
  std::uint64_t mismatched_chunks = 0;     ///< that verification found to differ
  bool point_in_time = false;              ///< a backup: the disk stays where it is
  std::string since_bitmap;                ///< that says what is copied; empty: everything is
  std::uint64_t generations_begun = 0;     ///< mode snapshot
  std::uint64_t generations_complete = 0;  ///< the latest that the target held whole and durably
  std::uint64_t chunks_kept = 0;           ///< whose old content was kept for the copier
  std::uint64_t switchover_attempts = 0;
  std::uint64_t switchovers_postponed = 0;  ///< fences that were opened on the source again
  double postponed_ms = 0;                  ///< what these cost the guest together

  bool switched = false;       ///< the target owns the disk
  bool owner_unknown = false;  ///< or not: only a restart can read what the journal says
  // While hydrating, and after it. `remaining_bytes` is then what is still absent.
  std::uint64_t bytes_hydrated = 0;  ///< pulled from the old store, zeros included
  std::uint64_t bytes_spared = 0;    ///< filled by the guest's own writes, never fetched
  std::uint64_t pulls_demanded = 0;  ///< because a request needed them
  std::uint64_t pulls_prefetched = 0;
  std::uint64_t pulls_pushed = 0;  ///< in the background
  double demand_p50_ms = 0;        ///< how long requests waited for the old store
  double demand_p99_ms = 0;
  bool reverse_mirror = false;       ///< the old store has every acknowledged write
  std::string depends_on;            ///< "both stores" where losing either loses data; else empty
  std::uint64_t checkpoints = 0;     ///< of its progress, since it started or was resumed
  std::uint64_t active_regions = 0;  ///< that a crash would make dirty
  bool resumed = false;              ///< by a restart, from what was recorded
  std::string interrupted_in;        ///< by the last restart: the phase that it was in then
  bool suspended = false;            ///< ended with its daemon, and a restart goes on with it

  double elapsed_seconds = 0;
  double earlier_seconds = 0;  ///< before restarts, in the lives that it goes on from
  double predicted_downtime_ms = 0;
  double stall_ms = 0;            ///< how long the gate was closed at the switchover that succeeded
  double longest_request_ms = 0;  ///< longest guest request since the job began
  double guest_p50_ms = 0;        ///< guest requests during the job
  double guest_p99_ms = 0;
  GuestLatency guest_before;  ///< since the disk was served, or its last move ended
  GuestLatency guest_after;   ///< the first seconds after the job, once they are over
  /// What --max-guest-latency allows the copier now; 0 and 0 without it, and 0 for no limit.
  std::uint64_t pace_bytes_per_second = 0;
  std::uint32_t pace_depth = 0;
  /// Of the loop's time, what the guest may have while the copier works; 1: all (GuestShare).
  double guest_share = 1;

  std::vector<Decision> decisions;
  std::uint64_t decisions_dropped = 0;  ///< of those in between, beyond kMaxDecisions

  std::string source_digest;  ///< hex; empty if not computed
  std::string target_digest;
  bool read_back = false;  ///< the target's is of what it has, not of what it has taken
};

}  // namespace blockmig

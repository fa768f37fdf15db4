// SPDX-License-Identifier: Apache-2.0
// Job's report: what its status says, taken from the parts that know.
#include <algorithm>

#include "blockmig/base/units.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/job.h"

namespace blockmig {

/// The mirror changes by itself between mirroring and tracking; here it is told.
void Job::note_fallback() {
  Migration& m = migration_;
  if (!m.mirror || m.status.phase != Phase::kMirroring) return;
  const bool tracking = m.mirror->tracking_only();
  if (tracking == (m.status.active_mode == Mode::kDbt)) return;
  m.status.active_mode = tracking ? Mode::kDbt : Mode::kMirror;
  const MirrorStats& stats = m.mirror->stats();
  note_decision(m, tracking ? "mirror -> dbt" : "dbt -> mirror",
                tracking ? "most writes missed the mirror's deadline of " +
                               format_duration(m.options.mirror_deadline) + " (" +
                               std::to_string(stats.deadline_misses) + " so far, " +
                               std::to_string(stats.writes_mirrored) + " were mirrored)"
                         : "the target has had time to recover");
}

void Job::capture(JobStatus& status) const {
  const Migration& m = migration_;
  if (m.engine) {
    const CopyStats& copy = m.engine->stats();
    status.bytes_copied = copy.bytes_copied;
    status.bytes_zero = copy.bytes_zero;
    if (m.passes.empty()) status.bytes_copied_first_pass = copy.bytes_copied;
  }
  if (m.mirror) {
    status.bytes_mirrored = m.mirror->stats().bytes_mirrored;
    status.mirror_deadline_misses = m.mirror->stats().deadline_misses;
    status.mirror_fallbacks = m.mirror->fallback().times();
    status.longest_mirror_wait_ms = to_milliseconds(m.mirror->stats().longest_wait);
  }
  if (m.replica) {
    status.target_errors = m.replica->errors();
    status.target_losses = m.replica->losses();
  }
  if (m.checkpoint) {
    status.checkpoints = m.checkpoint->checkpoints();
    status.active_regions = m.checkpoint->active_regions();
  }
  status.switched = m.decided;
  const bool left_behind = m.pivot && m.decided;
  if (m.sync && !left_behind) {
    status.remaining_bytes = m.sync->dirty->dirty_bytes() + pending_bytes(m);
    status.mismatched_chunks = m.sync->mismatches;
  }
  capture_hydration(m, status);
}

JobStatus Job::status() const {
  JobStatus status = migration_.status;
  capture(status);
  // Not as of the last sample: right after the switchover there has been none.
  if (migration_.hydrating != nullptr) capture_hydration(migration_, status);
  status.rate_bytes_per_second = ended() ? 0 : rate_now();
  const bool tracked = !ended() && !migration_.decided;
  status.dirty_rate_bytes_per_second = tracked ? dirtied_rate_.bytes_per_second() : 0;
  // The disk may be gone with the job.
  status.throttle_bytes_per_second = ended() ? 0 : migration_.disk.write_throttle().rate();
  if (!ended()) {
    status.guest_share = migration_.disk.guest_share().part(migration_.loop.now());
  }
  status.bwlimit_bytes_per_second = migration_.options.bwlimit_bytes_per_second;
  status.priority = migration_.options.priority;
  status.max_downtime_ms = to_milliseconds(migration_.options.max_downtime);
  if (!ended() && !migration_.decided && migration_.cancel.cancelled()) {
    // Nothing of the target's is waited for, and everything else is quick while it answers.
    status.verdict = "being aborted: waits until the source has answered what it was asked (" +
                     status.source_uri + ")";
  }
  const TimePoint until = ended() ? ended_at_ : migration_.loop.now();
  status.elapsed_seconds = std::chrono::duration<double>(until - migration_.begun).count();
  guest_.capture(status);
  return status;
}

}  // namespace blockmig

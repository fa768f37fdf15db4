// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/restart_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "blockmig/io/offload.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/unfinished_jobs.h"
#include "tools/daemon/image_identity.h"
#include "tools/daemon/job_changes.h"
#include "tools/daemon/migration_service.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {

Task<Status> RestartService::load() {
  const auto jobs = co_await journal_.load_jobs();
  if (!jobs) co_return jobs.error();
  const UnfinishedJobs found = find_unfinished(*jobs);
  for (const JobRecord& record : found.open) {
    Unfinished& job = unfinished_[record.disk];
    job.record = record;
    const Status known = co_await load_facts(job);
    if (!known) co_return known;
  }
  for (const JobRecord& record : found.stale) {
    JournalBatch batch = batch_of_end(record, JobState::kFailed);
    // The disk's notes are its latest job's.
    batch.removed_notes = notes_of_job(record.id);
    const Status ended = co_await journal_.commit(batch);
    if (!ended) co_return ended;
  }
  co_return Status();
}

/// What it is shown by, and what may be done to it, before its disk is there.
Task<Status> RestartService::load_facts(Unfinished& job) {
  const auto switched = co_await has_switched(job.record);
  if (!switched) co_return switched.error();
  job.switched = *switched;
  const auto aborted = co_await load_abort(journal_, job.record.id);
  if (!aborted) co_return aborted.error();
  if (*aborted) {
    job.record.on_restart = to_string(OnRestart::kAbort);
    job.end = JobState::kAborted;
  }
  const auto paused = co_await load_pause(journal_, job.record.id);
  if (!paused) co_return paused.error();
  job.paused = paused->value_or(job.record.state == to_string(JobState::kPaused));
  co_return Status();
}

Task<Result<bool>> RestartService::has_switched(const JobRecord& record) {
  const auto owner = co_await journal_.load_disk(record.disk);
  if (!owner) co_return owner.error();
  if (!owner->has_value() || (*owner)->hydration.empty()) co_return false;
  const auto rest = co_await journal_.load_hydration(record.disk);
  if (!rest) co_return rest.error();
  co_return !rest->has_value() || (*rest)->job == record.id;
}

Task<Status> RestartService::prepare(Disk& disk, bool same_store) {
  const std::string name = disk.name();
  const auto found = unfinished_.find(name);
  if (found == unfinished_.end() || found->second.prepared) co_return Status();
  if (found->second.in_use) {
    co_return Error(ErrorCode::kBusy, "the move of disk '" + name + "' is being ended or paused");
  }
  found->second.in_use = true;
  const Status done = co_await prepare_job(found->second, disk, same_store);
  const auto left = unfinished_.find(name);
  if (left != unfinished_.end()) left->second.in_use = false;
  co_return done;
}

/// It is in unfinished_ still unless it has ended.
Task<Status> RestartService::prepare_job(Unfinished& job, Disk& disk, bool same_store) {
  const auto switched = co_await has_switched(job.record);
  if (!switched) co_return switched.error();
  if (*switched) {
    // Its hydration goes on by its own record, unless the disk is told to live elsewhere
    // (--force-source): before that is recorded, the job has ended. It is done where what is at
    // rest stays there.
    const auto* const layer = hydrating_layer(disk);
    const bool stays =
        layer != nullptr && layer->at_rest() && layer->record().hydrate != Hydrate::kBackground;
    const JobRecord record = job.record;
    Status ended;
    std::optional<Error> none;
    if (stays) ended = co_await record_end(record, JobState::kDone, std::move(none));
    if (layer == nullptr) {
      std::optional<Error> elsewhere =
          Error(ErrorCode::kShutdown, "the disk was told to live elsewhere");
      ended = co_await record_end(record, JobState::kFailed, std::move(elsewhere));
    }
    if (ended) unfinished_.erase(disk.name());
    co_return ended;
  }
  if (goes_on(job.record)) {
    const Status taken = co_await take_up(job, disk, same_store);
    job.prepared = taken.ok();
    co_return taken;
  }
  const Status ended = co_await end_unserved(job);
  if (ended && !job.returned) unfinished_.erase(disk.name());
  co_return ended;
}

Task<Status> RestartService::take_up(Unfinished& job, Disk& disk, bool same_store) {
  const std::string id = job.record.id;
  auto closed = co_await load_closed_move(journal_, disk.name());
  if (!closed) co_return closed.error();
  job.closed = *std::move(closed);
  bool as_left = true;
  if (job.closed && !job.closed->served) {
    const std::string uri = disk.store_uri();
    const std::string now = co_await offload(loop_, [&uri] { return image_identity(uri); });
    as_left = !now.empty() && now == job.closed->source;
  }
  if (!same_store || !as_left) {
    const Status ended = co_await make_void(
        job, same_store
                 ? "somebody may have changed its image while it was not served"
                 : "somebody else has had its image, or may have, or put another in its place");
    co_return ended;
  }
  Result<RecoveredTracking> tracking = co_await recover(journal_, disk, id, loop_);
  if (!tracking) co_return tracking.error().with_context("reading the progress of " + id);
  job.tracking = *std::move(tracking);
  if (!job.closed) co_return Status();
  // From now on there are writes that it knows nothing of; the activity log does.
  ClosedMove served = *job.closed;
  served.served = true;
  const Status noted = co_await save_closed_move(journal_, disk.name(), std::move(served));
  if (!noted) {
    auto unused = std::move(job.tracking);
    co_await discard(disk, std::move(unused));
  }
  co_return noted;
}

Task<Status> RestartService::make_void(const Unfinished& job, const std::string& why) {
  const JobRecord& record = job.record;
  log_.warning("what is recorded of the move's progress is not believed: " + why,
               {record.disk, record.id, 0});
  JournalBatch batch;
  batch.removed_sets = records_of(record.disk, record.id);
  if (job.closed) {
    const ClosedMove served{true, "", job.closed->target};
    batch.notes.push_back(closed_move_note(record.disk, served));
  }
  const Status removed = co_await journal_.commit(batch);
  co_return removed;
}

void RestartService::published(const std::string& disk) {
  const auto found = unfinished_.find(disk);
  if (found == unfinished_.end() || !found->second.prepared) return;
  Unfinished job = std::move(found->second);
  unfinished_.erase(found);
  if (leaving_) {
    keep(std::move(job));
    return;
  }
  taken_up_[disk] = job.record.id;
  if (waiting_) {
    held_.push_back(std::move(job));
    return;
  }
  auto task = take_up_again(std::move(job));
  resuming_.spawn(std::move(task));
}

void RestartService::go_on() {
  waiting_ = false;
  for (Unfinished& job : std::exchange(held_, {})) {
    auto task = take_up_again(std::move(job));
    resuming_.spawn(std::move(task));
  }
}

Task<void> RestartService::finish() {
  leaving_ = true;
  for (Unfinished& job : std::exchange(held_, {})) keep(std::move(job));
  co_await resuming_.join();
}

void RestartService::keep(Unfinished job) {
  kept_.push_back({job.record.disk, job.record.target_uri, std::move(job.tracking)});
}

std::vector<std::pair<std::string, std::string>> RestartService::left() const {
  std::vector<std::pair<std::string, std::string>> moves;
  for (const Kept& each : kept_) {
    if (!each.target_uri.empty()) moves.emplace_back(each.disk, each.target_uri);
  }
  return moves;
}

Task<void> RestartService::take_up_again(Unfinished job) {
  const std::string disk = job.record.disk;
  co_await resume(std::move(job));
  taken_up_.erase(disk);
}

std::string RestartService::job_to_take_up(const std::string& disk) const {
  const auto waits = unfinished_.find(disk);
  if (waits != unfinished_.end()) return waits->second.record.id;
  const auto begins = taken_up_.find(disk);
  return begins != taken_up_.end() ? begins->second : std::string();
}

Task<void> RestartService::withdrawn(Disk& disk) {
  const auto found = unfinished_.find(disk.name());
  if (found == unfinished_.end() || !found->second.prepared) co_return;
  found->second.prepared = false;
  auto tracking = std::move(found->second.tracking);
  co_await discard(disk, std::move(tracking));
  if (!found->second.closed) co_return;
  // Nobody has written to it, and the next try is to see whether that is still so.
  const Status noted = co_await save_closed_move(journal_, disk.name(), *found->second.closed);
  if (noted.ok()) co_return;
  const Status forgotten = co_await forget(journal_, disk.name(), found->second.record.id);
  if (!forgotten.ok()) log_.error(noted.error().message(), {disk.name(), "", 0});
}

Task<void> RestartService::resume(Unfinished job) {
  const JobRecord& record = job.record;
  const auto disk = disks_.get(record.disk);  // kept until its tracking is off
  const bool recorded = !job.tracking.empty();
  std::optional<std::string> target_as_left;
  if (job.closed) target_as_left = job.closed->target;
  const Status resumed = co_await migrations_.resume_recorded(
      record, job.tracking, std::move(target_as_left), job.resumed);
  if (resumed) {
    const bool waits = waits_for_operator(job.record) && !job.resumed;
    log_.info(
        std::string(recorded ? "resumed from its record"
                             : "begun again: nothing was recorded yet") +
            (waits ? ", and waits for 'blockmig resume " + record.disk + "' (--on-restart pause)"
                   : std::string()),
        {record.disk, record.id, 0});
    co_return;
  }
  log_.error("cannot be resumed: " + resumed.error().message(), {record.disk, record.id, 0});
  // First the record, then the tracking: no write may meet a record that does not know it.
  std::optional<Error> why = resumed.error().with_context("it could not be resumed");
  const Status ended = co_await record_end(record, JobState::kFailed, std::move(why));
  Status is_void = ended;
  if (!ended) {
    log_.error(ended.error().message(), {record.disk, record.id, 0});
    is_void = co_await forget(journal_, record.disk, record.id);
  }
  if (!disk) co_return;
  auto tracking = std::move(job.tracking);
  if (is_void.ok()) {
    co_await discard((*disk)->disk(), std::move(tracking));
  } else if (!tracking.empty()) {
    kept_.push_back({record.disk, "", std::move(tracking)});
  }
}

bool RestartService::may_have_record(const std::string& disk) const {
  const bool kept = std::any_of(kept_.begin(), kept_.end(),
                                [&disk](const Kept& left) { return left.disk == disk; });
  return kept || unfinished_.contains(disk) || !held_.empty() || resuming_.running() != 0;
}

Task<void> RestartService::leave_disk(Disk& disk) {
  // Taken out first: meanwhile the move of another disk may come to be kept.
  for (;;) {
    const auto found = std::find_if(kept_.begin(), kept_.end(),
                                    [&disk](const Kept& left) { return left.disk == disk.name(); });
    if (found == kept_.end()) co_return;
    auto tracking = std::move(found->tracking);
    kept_.erase(found);
    co_await discard(disk, std::move(tracking));
  }
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// RestartService's part in moves that wait for their disks, and in those that end without going on.
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/unfinished_jobs.h"
#include "tools/control/json.h"
#include "tools/daemon/begun_target.h"
#include "tools/daemon/image_identity.h"
#include "tools/daemon/job_changes.h"
#include "tools/daemon/migration_service.h"
#include "tools/daemon/restart_service.h"
#include "tools/daemon/served_disk.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {
namespace {

/// The last word of a job that did not go on.
std::optional<Error> why_ended(const JobRecord& record, JobState state) {
  if (state == JobState::kAborted) return std::nullopt;
  return end_with_daemon(record);
}

}  // namespace

bool RestartService::goes_on(const JobRecord& record) {
  const Result<OnRestart> action = parse_on_restart(record.on_restart);
  return action.ok() && *action != OnRestart::kAbort && !record.request.empty();
}

bool RestartService::waits_for_operator(const JobRecord& record) {
  return record.on_restart == to_string(OnRestart::kPause);
}

JournalBatch RestartService::batch_of_end(JobRecord record, JobState state) {
  record.state = to_string(state);
  JournalBatch batch;
  batch.removed_sets = records_of(record.disk, record.id);
  batch.removed_notes = notes_of_job(record.id);
  batch.removed_notes.push_back(closed_move_note(record.disk));
  batch.removed_notes.push_back(begun_target_note(record.disk));
  batch.jobs.push_back(std::move(record));
  return batch;
}

/// Nobody tracks it any more: what is recorded must not be believed later.
Task<Status> RestartService::end_unserved(Unfinished& job) {
  if (job.record.mode == to_string(Mode::kReturn)) {
    // The rest is end_return()'s, which needs the disk.
    JobRecord told = job.record;
    told.on_restart = to_string(OnRestart::kAbort);
    JournalBatch batch;
    batch.removed_sets = records_of(told.disk, told.id);
    if (job.end == JobState::kAborted) batch.notes.push_back(abort_note(told.id));
    batch.jobs.push_back(told);
    const Status saved = co_await journal_.commit(batch);
    if (!saved) co_return saved;
    migrations_.note_end(end_of_job(told, job.end, why_ended(told, job.end)));
    job.record = std::move(told);
    job.returned = true;
    co_return saved;
  }
  const JobRecord record = job.record;
  std::optional<Error> why = why_ended(record, job.end);
  const Status ended = co_await record_end(record, job.end, std::move(why));
  // What a disk fetches from it still needs.
  const bool needs_target = record.mode == to_string(Mode::kSettle);
  if (ended && owners_ != nullptr && !needs_target) {
    co_await owners_->leave_unfinished(record.disk, record.target_uri);
  }
  co_return ended;
}

Task<void> RestartService::end_return(ServedDisk& served) {
  const auto found = unfinished_.find(served.name());
  if (found == unfinished_.end() || !found->second.returned) co_return;
  const JobRecord record = found->second.record;
  const JobState state = found->second.end;
  const Result<StoreUri> target = parse_store_uri(record.target_uri);
  const Result<StoreUri> source = parse_store_uri(served.disk().store_uri());
  const bool as_left = co_await is_target_as_left(record);
  if (owners_ != nullptr && as_left && target.ok() && source.ok()) {
    // What it has copied is marked still in the record of what has changed since.
    const std::uint64_t epoch = served.disk().epoch();
    StoreOwners::Move move;
    move.disk = record.disk;
    move.source = *source;
    move.target = *target;
    move.epoch = epoch + 1;
    move.record = record_token(served.bitmaps(), epoch);
    co_await owners_->leave_unfinished(record.disk, record.target_uri);
    co_await owners_->leave_again(move);
  }
  std::optional<Error> why = why_ended(record, state);
  const Status ended = co_await record_end(record, state, std::move(why));
  if (!ended) log_.error(ended.error().message(), {record.disk, record.id, 0});
  unfinished_.erase(record.disk);
}

/// Where an orderly end came between: nobody has changed it since.
Task<bool> RestartService::is_target_as_left(const JobRecord& record) {
  const auto closed = co_await load_closed_move(journal_, record.disk);
  if (!closed.ok() || !closed->has_value()) co_return closed.ok();
  const std::string& uri = record.target_uri;
  const std::string now = co_await offload(loop_, [&uri] { return image_identity(uri); });
  co_return !now.empty() && now == (*closed)->target;
}

Result<RestartService::Unfinished*> RestartService::find_waiting(const std::string& disk) {
  const auto found = unfinished_.find(disk);
  const bool waits = found != unfinished_.end() && !found->second.prepared && !found->second.in_use;
  if (!waits) {
    return Error(ErrorCode::kBusy, "disk '" + disk +
                                       "' is being taken up with its unfinished move: try again in "
                                       "a moment");
  }
  if (!found->second.switched) return &found->second;
  return Error(ErrorCode::kPrecondition,
               "disk '" + disk + "' has switched over already, and is not served yet: " +
                   found->second.record.id + " goes on when it is");
}

Task<Status> RestartService::abort(std::string disk) {
  const auto waiting = find_waiting(disk);
  if (!waiting) co_return waiting.error();
  Unfinished& job = **waiting;
  job.in_use = true;
  job.end = JobState::kAborted;
  const Status ended = co_await end_unserved(job);
  job.in_use = false;
  if (!ended) job.end = JobState::kFailed;
  if (ended && !job.returned) unfinished_.erase(disk);
  co_return ended;
}

Task<Status> RestartService::end_without_disk(std::string disk) {
  const auto found = unfinished_.find(disk);
  if (found == unfinished_.end()) co_return Status();
  Unfinished& job = found->second;
  if (job.prepared || job.in_use || job.switched || goes_on(job.record)) co_return Status();
  job.in_use = true;
  Status ended;
  if (!job.returned) ended = co_await end_unserved(job);
  if (ended && job.returned) {
    const JobRecord record = job.record;
    std::optional<Error> why = why_ended(record, job.end);
    ended = co_await record_end(record, job.end, std::move(why));
  }
  job.in_use = false;
  if (ended) unfinished_.erase(disk);
  co_return ended;
}

Task<Status> RestartService::set_paused(std::string disk, bool paused) {
  const auto waiting = find_waiting(disk);
  if (!waiting) co_return waiting.error();
  Unfinished& job = **waiting;
  job.in_use = true;
  const Status saved = co_await save_pause(journal_, job.record.id, paused);
  job.in_use = false;
  if (saved) {
    job.paused = paused;
    job.resumed = !paused;
  }
  co_return saved;
}

void RestartService::show(JobStatus& job, const std::string& why) const {
  if (job_to_take_up(job.disk) != job.id) return;
  const auto found = unfinished_.find(job.disk);
  const bool waits = found != unfinished_.end();
  const bool switched = waits && found->second.switched;
  if (waits && !switched && !goes_on(found->second.record)) {
    job.state = found->second.end;
    job.error = why_ended(found->second.record, found->second.end);
    return;
  }
  job.state = JobState::kPaused;
  job.phase = switched ? Phase::kHydrating : Phase::kPreparing;
  job.switched = switched;
  job.error.reset();
  job.paused_because = waits ? "its disk is not served yet" : "its disk has just come";
  if (waits && !why.empty()) job.paused_because += ": " + why;
  if (!waits) return;
  const Unfinished& later = found->second;
  if (later.paused) {
    job.paused_because += "; and an operator has paused it";
  } else if (!switched && waits_for_operator(later.record) && !later.resumed) {
    job.paused_because += "; then it waits for 'blockmig resume' (--on-restart pause)";
  }
}

Task<Status> RestartService::record_end(JobRecord record, JobState state,
                                        std::optional<Error> why) {
  const JobStatus last = end_of_job(record, state, std::move(why));
  record.report_json = to_json(last);
  const JournalBatch batch = batch_of_end(std::move(record), state);
  const Status saved = co_await journal_.commit(batch);
  if (saved) migrations_.note_end(last);
  co_return saved;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/restart_service.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "blockmig/migrate/unfinished_jobs.h"
#include "tools/control/json.h"
#include "tools/daemon/disk_service.h"
#include "tools/daemon/migration_service.h"
#include "tools/daemon/store_owners.h"

namespace blockmig {
namespace {

bool goes_on(const JobRecord& record) {
  const Result<OnRestart> action = parse_on_restart(record.on_restart);
  return action.ok() && *action != OnRestart::kAbort && !record.request.empty();
}

}  // namespace

Task<Status> RestartService::load() {
  const auto jobs = co_await journal_.load_jobs();
  if (!jobs) co_return jobs.error();
  const UnfinishedJobs found = find_unfinished(*jobs);
  for (const JobRecord& record : found.open) unfinished_[record.disk].record = record;
  for (const JobRecord& record : found.stale) {
    const Status ended = co_await record_end(record);
    if (!ended) co_return ended;
  }
  co_return Status();
}

Task<void> RestartService::serve_recorded(DiskService& service, std::vector<std::string> except) {
  const auto notes = co_await journal_.load_notes("serve");
  if (!notes) {
    log_.error("cannot read which disks were served: " + notes.error().message());
    co_return;
  }
  for (const NoteRecord& note : *notes) {
    if (std::find(except.begin(), except.end(), note.name) != except.end()) continue;
    Result<ServeRequest> wanted = serve_request_from_json(note.text);
    Status served = wanted ? Status() : Status(wanted.error());
    if (wanted) {
      ServeRequest request = *std::move(wanted);
      request.source.clear();  // the journal knows where it is by now
      request.create_size_bytes = 0;
      request.force_source = false;
      request.bitmaps.clear();  // they were memory: what they missed is not known
      const Result<DiskView> view = co_await service.serve(std::move(request));
      if (view) {
        service.note_restored(note.name);
      } else {
        served = view.error();
      }
    }
    if (!served) {
      log_.error("was served before, and is not now: " + served.error().message(),
                 {note.name, "", 0});
    }
  }
}

Task<Status> RestartService::prepare(Disk& disk) {
  const auto found = unfinished_.find(disk.name());
  if (found == unfinished_.end()) co_return Status();
  Unfinished& job = found->second;
  if (job.prepared) co_return Status();
  const auto owner = co_await journal_.load_disk(disk.name());
  if (!owner) co_return owner.error();
  if (owner->has_value() && !(*owner)->hydration.empty()) {
    const auto rest = co_await journal_.load_hydration(disk.name());
    if (!rest) co_return rest.error();
    if (!rest->has_value() || (*rest)->job == job.record.id) {
      unfinished_.erase(found);  // it has switched; its hydration goes on by its own record
      co_return Status();
    }
  }
  if (goes_on(job.record)) {
    Result<RecoveredTracking> tracking = co_await recover(journal_, disk, job.record.id, loop_);
    if (!tracking) {
      co_return tracking.error().with_context("reading the progress of " + job.record.id);
    }
    job.tracking = *std::move(tracking);
    job.prepared = true;
    co_return Status();
  }
  // Nobody tracks it any more: what is recorded must not be believed later.
  const JobRecord record = job.record;
  const Status ended = co_await record_end(record);
  // What a disk has left is left still, and may be returned to; what it fetches from it still
  // needs.
  const bool needs_target =
      record.mode == to_string(Mode::kReturn) || record.mode == to_string(Mode::kSettle);
  if (ended && owners_ != nullptr && !needs_target) {
    co_await owners_->forget_target(record.disk, record.target_uri);
  }
  if (ended) unfinished_.erase(disk.name());
  co_return ended;
}

Task<Status> RestartService::record_end(JobRecord record) {
  record.state = to_string(JobState::kFailed);
  JournalBatch batch;
  batch.removed_sets = records_of(record.disk, record.id);
  batch.jobs.push_back(std::move(record));
  const Status saved = co_await journal_.commit(batch);
  co_return saved;
}

void RestartService::published(const std::string& disk) {
  const auto found = unfinished_.find(disk);
  if (found == unfinished_.end() || !found->second.prepared) return;
  Unfinished job = std::move(found->second);
  unfinished_.erase(found);
  auto task = resume(std::move(job));
  resuming_.spawn(std::move(task));
}

Task<void> RestartService::withdrawn(Disk& disk) {
  const auto found = unfinished_.find(disk.name());
  if (found == unfinished_.end() || !found->second.prepared) co_return;
  found->second.prepared = false;
  auto tracking = std::move(found->second.tracking);
  co_await discard(disk, std::move(tracking));
}

Task<void> RestartService::resume(Unfinished job) {
  const JobRecord& record = job.record;
  const auto disk = disks_.get(record.disk);  // kept until its tracking is off
  const bool recorded = !job.tracking.empty();
  const Status resumed = co_await migrations_.resume_recorded(record, job.tracking);
  if (resumed) {
    log_.info(recorded ? "resumed from its record" : "begun again: nothing was recorded yet",
              {record.disk, record.id, 0});
    co_return;
  }
  log_.error("cannot be resumed: " + resumed.error().message(), {record.disk, record.id, 0});
  // First the record, then the tracking: no write may meet a record that does not know it.
  const Status ended = co_await record_end(record);
  if (!ended) {
    log_.error(ended.error().message(), {record.disk, record.id, 0});
    co_await forget(journal_, record.disk, record.id);
  }
  if (!disk) co_return;
  auto tracking = std::move(job.tracking);
  co_await discard((*disk)->disk(), std::move(tracking));
}

}  // namespace blockmig

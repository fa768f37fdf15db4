// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/migration_service.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "blockmig/base/uri.h"
#include "blockmig/io/offload.h"
#include "blockmig/migrate/guest_pace.h"
#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/return_record.h"
#include "blockmig/migrate/unfinished_jobs.h"
#include "tools/control/json.h"
#include "tools/daemon/backup_target.h"
#include "tools/daemon/folder_at_rest.h"
#include "tools/daemon/job_changes.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

/// How long the guest's requests are looked at once a move is over.
constexpr Duration kAfterMove = std::chrono::seconds(5);
/// How long a move waits for the answers to what an earlier one has sent to its target.
constexpr Duration kEarlierAnswers = std::chrono::seconds(2);

/// What a journal record still says: everything where the final report is there, else the outline.
/// A job that was running when its daemon ended has ended with it, before its decision (I7).
JobStatus status_of_record(const JobRecord& record) {
  Result<JobStatus> report = job_from_json(record.report_json);
  JobStatus job;
  if (report.ok()) job = *std::move(report);
  job.id = record.id;
  job.disk = record.disk;
  job.target_uri = record.target_uri;
  job.attempt = record.attempt;
  const Result<Mode> mode = parse_mode(record.mode);
  if (mode.ok()) job.mode = *mode;
  if (!report.ok()) job.active_mode = job.mode;
  job.phase = Phase::kEnded;
  job.state = JobState::kFailed;
  for (const JobState state : {JobState::kDone, JobState::kAborted}) {
    if (record.state == to_string(state)) job.state = state;
  }
  // Of one that has ended by itself the report says it.
  if (record.state == to_string(JobState::kRunning) ||
      record.state == to_string(JobState::kPaused)) {
    job.interrupted_in = record.phase;
  }
  const bool ended_so = !report.ok() && record.state == to_string(JobState::kFailed);
  if (ended_so || record.state == to_string(JobState::kRunning) ||
      record.state == to_string(JobState::kPaused)) {
    job.error = end_with_daemon(record);
  }
  return job;
}

/// What the disk still fetches from; empty: it is whole.
std::string base_of(Disk& disk) {
  const auto* const layer = hydrating_layer(disk);
  return layer == nullptr ? std::string() : layer->record().base_uri;
}

}  // namespace

Error end_with_daemon(const JobRecord& record) {
  const bool as_told = record.on_restart == to_string(OnRestart::kAbort);
  return Error(
      ErrorCode::kShutdown,
      std::string("its daemon ended before the switchover") +
          (as_told ? ", and with it the move, as --on-restart abort says" : ": start it again"));
}

JobStatus end_of_job(const JobRecord& record, JobState state, std::optional<Error> why) {
  JobStatus job = status_of_record(record);
  job.state = state;
  job.error = std::move(why);
  return job;
}

void MigrationService::note_end(const JobStatus& job) {
  for (JobStatus& old : history_) {
    if (old.id == job.id) old = job;
  }
}

Task<Status> MigrationService::load_history() {
  const Status numbered = co_await jobs_.load();
  if (!numbered) co_return numbered;
  Result<std::vector<JobRecord>> records = co_await journal_.load_jobs();
  if (!records) co_return records.error();
  sort_by_number(*records);
  for (const JobRecord& record : *records) history_.push_back(status_of_record(record));
  co_return Status();
}

Task<Result<TargetPlan>> MigrationService::plan_target(
    const MigrateRequest& request, bool resumed, std::optional<StoreReservations::Hold>& hold) {
  const auto disk = disks_.get(request.disk);
  if (!disk) co_return disk.error();
  const Result<StoreUri> target = parse_store_uri(request.target);
  if (!target) co_return target.error();
  const Result<StoreUri> source = parse_store_uri((*disk)->disk().store_uri());
  if (!source) co_return source.error();
  TargetPlan plan;
  plan.target = *target;
  plan.source = *source;
  plan.disk = request.disk;
  plan.disk_info = (*disk)->disk().info();
  plan.epoch = (*disk)->disk().epoch() + 1;  // of this source: check_still_there()
  co_await jobs_.wait_answered(target->text, kEarlierAnswers);
  plan.own_addresses = service_.addresses();
  plan.owners = owners_;
  plan.check_alias = [this](const TargetPlan& to, const BlockDevice& device) {
    return service_.check_alias(to.target, device, to.disk, to.lives);
  };
  plan.journal = &journal_;
  plan.bitmaps = &(*disk)->bitmaps();
  plan.returning = request.options.mode == Mode::kReturn;
  plan.resumed = resumed;
  plan.settling = request.options.mode == Mode::kSettle;
  if (plan.returning) {
    const Status known = check_way_back(plan.bitmaps, request.disk, plan.epoch - 1);
    if (!known) co_return known.error();
    plan.record = record_token(*plan.bitmaps, plan.epoch - 1);
  }
  if (!resumed) {
    plan.target = co_await offload(loop_, [&plan] { return resolve_target(plan); });
  }
  plan.uses = service_.uses(request.disk, request.options.mode != Mode::kSettle);
  hold.emplace(service_.reserved().reserve(
      {"a move of disk '" + request.disk + "', as its target", plan.target, {}}));
  // Not before: a disk that is detached meanwhile would be in neither.
  auto lives = co_await service_.lives_of_others(request.disk);
  if (!lives) co_return lives.error();
  plan.lives = *std::move(lives);
  // The job looks itself, and waits where the target may come back.
  if (resumed) co_return plan;
  const std::uint64_t size = (*disk)->disk().info().size_bytes;
  if (size == 0) {
    co_return Error(ErrorCode::kPrecondition,
                    "disk '" + request.disk + "' has no bytes: there is nothing to move");
  }
  std::vector<StorePart> parts;
  Status checked = co_await offload(loop_, [&plan, size, &parts] {
    if (plan.target.kind == StoreUri::Kind::kFile) parts = parts_of(plan.target.path);
    return check_target(plan, size);
  });
  const bool its_base_too = request.options.mode != Mode::kSettle;
  if (checked) {
    checked = check_found(plan.target, parts, service_.uses(request.disk, its_base_too));
  }
  if (!checked) co_return checked.error();
  hold->found(std::move(parts));
  service_.forget_unused_stores();
  co_return plan;
}

/// A disk that settles goes to the image that it fetches from, which the request names by itself or
/// by its folder.
Task<Status> MigrationService::find_base(Disk& disk, MigrateRequest& request) {
  const auto* const layer = hydrating_layer(disk);
  if (layer == nullptr || !layer->at_rest()) {
    co_return Error(ErrorCode::kPrecondition,
                    "disk '" + disk.name() + "' is whole at " + disk.store_uri() +
                        ": nothing of it is at rest in a folder that it could go back into");
  }
  TargetPlan plan;
  const std::string name = disk.name();
  const HydrationRecord rest = layer->record();
  const Result<StoreUri> base = parse_store_uri(rest.base_uri);
  const Result<StoreUri> into = parse_store_uri(request.target);
  if (!base) co_return base.error();
  if (!into) co_return into.error();
  plan.source = *base;  // a folder stands for the file of its name in it
  plan.target = *into;
  const bool same = co_await offload(loop_, [&plan] {
    plan.target = resolve_target(plan);
    return same_store(plan.target, plan.source);
  });
  if (!same) {
    co_return Error(ErrorCode::kPrecondition, "what is at rest of disk '" + name + "' is in " +
                                                  base->text + ", not in " + into->text);
  }
  request.target = base->text;
  request.options.granularity_bytes = rest.granularity_bytes;
  co_return Status();
}

/// While its target was looked at it may have left, and another one of that name have come, or it
/// may have moved: then the plan is of another store, and what is recorded of changes since another
/// time. The name of the disk, or why it is not to be moved.
Result<std::string> MigrationService::check_still_there(const std::shared_ptr<ServedDisk>& disk,
                                                        const TargetPlan& plan) const {
  const auto now = disks_.get(disk->name());
  if (!now) return now.error();
  const bool in_place = *now == disk && disk->disk().epoch() + 1 == plan.epoch;
  const bool same_base = !plan.settling || base_of(disk->disk()) == plan.target.text;
  if (in_place && same_base) return disk->name();
  return Error(ErrorCode::kBusy, "disk '" + disk->name() + "' has changed meanwhile: try again");
}

Task<Result<JobStatus>> MigrationService::start(MigrateRequest request) {
  if (disks_.get(request.disk).ok()) co_await service_.wait_settled(request.disk);
  const auto disk = disks_.get(request.disk);
  if (!disk) co_return disk.error();
  const Status settled = service_.check_settled(request.disk);
  if (!settled) co_return settled.error();
  if (!jobs_.job_of(request.disk).empty()) co_return jobs_.busy_with(request.disk);
  if (request.options.mode == Mode::kSettle) {
    const Status found = co_await find_base((*disk)->disk(), request);
    if (!found) co_return found.error();
  }
  std::optional<StoreReservations::Hold> hold;  // until the job is listed
  Result<TargetPlan> plan = co_await plan_target(request, false, hold);
  if (!plan) co_return plan.error();
  // What a restart opens is the file, also where a folder was named.
  request.target = plan->target.text;
  auto opening = co_await make_opener(request, *plan, false);
  if (!opening) co_return opening.error();
  const std::string base_uri = base_of((*disk)->disk());
  Result<std::string> id = check_still_there(*disk, *plan);
  if (id.ok()) {
    id =
        jobs_.start((*disk)->disk(), std::move(opening->opener), request.options, to_json(request));
  }
  if (!id) {
    co_await drop_bitmap(disks_, request.disk, opening->fresh);
    co_return id.error();
  }
  reports_.spawn(keep_report(*id, base_uri));
  hold.reset();
  const Result<JobStatus> job = co_await jobs_.wait_begun(*id);
  co_return job;
}

Task<Status> MigrationService::resume_recorded(const JobRecord& record,
                                               RecoveredTracking& recovered,
                                               std::optional<std::string> target_as_left,
                                               bool resumed) {
  const Result<MigrateRequest> request = migrate_request_from_json(record.request);
  if (!request) co_return request.error();
  const auto disk = disks_.get(request->disk);
  if (!disk) co_return disk.error();
  std::optional<StoreReservations::Hold> hold;
  Result<TargetPlan> plan = co_await plan_target(*request, true, hold);
  if (!plan) co_return plan.error();
  plan->as_left = std::move(target_as_left);
  auto opening = co_await make_opener(*request, *plan, true);
  if (!opening) co_return opening.error();
  JobOptions options = request->options;
  const Status changed = co_await apply_job_change(journal_, record.id, options);
  if (!changed) log_.warning(changed.error().message(), {record.disk, record.id, 0});
  const auto paused = co_await load_pause(journal_, record.id);
  if (!paused) co_return paused.error();
  JobRecord left = record;
  if (*paused) left.state = to_string(**paused ? JobState::kPaused : JobState::kRunning);
  const std::string base_uri = base_of((*disk)->disk());
  Result<std::string> id = check_still_there(*disk, *plan);
  if (id.ok()) {
    id = jobs_.resume_recorded((*disk)->disk(), std::move(opening->opener), options, left,
                               recovered, resumed);
  }
  if (!id) {
    co_await drop_bitmap(disks_, request->disk, opening->fresh);
    co_return id.error();
  }
  reports_.spawn(keep_report(*id, base_uri));
  co_return Status();
}

/// The disk's own store is whole: what it fetched from is nobody's.
Task<void> MigrationService::let_bases_go(const JobStatus& job, const std::string& base_uri) {
  const bool from_layer = job.switched && !base_uri.empty() && base_uri != job.target_uri;
  if (job.mode == Mode::kShared || from_layer) {
    const std::string at_rest = from_layer ? base_uri : job.source_uri;
    const Status released = co_await release_at_rest(loop_, at_rest, job.disk);
    if (!released) log_.warning(released.error().message(), {job.disk, job.id, job.epoch});
  }
  if (owners_ == nullptr || !job.switched) co_return;
  co_await owners_->leave_base(job.disk, job.source_uri);
  if (from_layer) co_await owners_->leave_base(job.disk, base_uri);
  co_await owners_->note_whole(job.disk, job.target_uri);
}

Task<Result<JobStatus>> MigrationService::wait_and_keep(std::string id) {
  const Status loaded = co_await job_reports_.load(id);
  if (!loaded) log_.warning(loaded.error().message(), {"", id, 0});
  Event ended(loop_);
  TaskScope keeping;
  auto task = job_reports_.keep(id, ended);
  keeping.spawn(std::move(task));
  Result<JobStatus> job = co_await jobs_.wait(id);
  ended.set();
  co_await keeping.join();
  const bool goes_on = job && (job->suspended || (job->switched && job->state != JobState::kDone));
  if (goes_on) {
    const Status saved = co_await job_reports_.save(*job);
    if (!saved) log_.warning(saved.error().message(), {job->disk, id, job->epoch});
  }
  co_return job;
}

Task<void> MigrationService::keep_report(std::string id, std::string base_uri) {
  const Result<JobStatus> job = co_await wait_and_keep(id);
  if (!job) co_return;
  if (job->suspended) co_return;  // its record is that of a job under way
  // Where the mirror is on still, the next serving of the disk lets them go.
  if (job->state == JobState::kDone && job->depends_on.empty() && !job->reverse_mirror) {
    co_await let_bases_go(*job, base_uri);
  }
  JobRecord record;
  record.id = id;
  record.disk = job->disk;
  record.mode = to_string(job->mode);
  record.target_uri = job->target_uri;
  record.state = to_string(job->state);
  record.attempt = job->attempt;
  record.report_json = to_json(completed(*job));
  record.phase = to_string(job->phase);
  record.request = jobs_.request_of(id);  // for a hydration that goes on later
  const Status saved = co_await journal_.save_job(record);
  // Nothing rests on it: the disk's record is what counts, and the job is still on the board.
  if (!saved) log_.warning(saved.error().message(), {job->disk, id, job->epoch});
  if (job->state == JobState::kDone || !job->switched) {
    const Status forgotten = co_await forget_job_change(journal_, id);
    if (!forgotten) log_.warning(forgotten.error().message(), {job->disk, id, job->epoch});
  }
  const bool looked = co_await look_after(*job);
  if (!looked) co_return;
  record.report_json = to_json(completed(*job));
  const Status again = co_await journal_.save_job(record);
  static_cast<void>(again);  // the report without these figures is there
}

Task<bool> MigrationService::look_after(const JobStatus& job) {
  const TimePoint later = loop_.now() + kAfterMove;
  const bool stopped = co_await stopping_.wait_until(later);
  const auto disk = disks_.get(job.disk);
  if (stopped || !disk.ok() || !jobs_.job_of(job.disk).empty()) co_return false;
  Disk& served = (*disk)->disk();
  std::erase_if(latencies_after_,
                [this](const auto& old) { return !jobs_.status(old.first).ok(); });
  latencies_after_[job.id] = guest_latency(served.stats().latency().since(served.latency_mark()));
  co_return true;
}

JobStatus MigrationService::completed(JobStatus job) const {
  const auto seen = latencies_after_.find(job.id);
  if (seen != latencies_after_.end()) job.guest_after = seen->second;
  return job_reports_.whole(std::move(job));
}

Task<void> MigrationService::finish() {
  stopping_.set();
  co_await reports_.join();
}

}  // namespace blockmig

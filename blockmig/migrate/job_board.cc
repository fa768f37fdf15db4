// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/job_board.h"

#include <algorithm>
#include <set>
#include <utility>

#include "blockmig/migrate/hydrating_device.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/job.h"
#include "blockmig/migrate/unfinished_jobs.h"

namespace blockmig {
namespace {
constexpr const char* kPausedBefore =
    "an operator asked for it, before its daemon was started again";
constexpr Duration kRestPoll = std::chrono::milliseconds(5);

/// The jobs by whose records disks that are not whole go on (I12).
Task<Result<std::set<std::string>>> jobs_of_hydrations(Journal& journal) {
  const auto disks = co_await journal.load_disks();
  if (!disks) co_return disks.error();
  std::set<std::string> jobs;
  for (const DiskRecord& disk : *disks) {
    const auto rest = co_await journal.load_hydration(disk.disk);
    if (!rest) co_return rest.error();
    if (rest->has_value()) jobs.insert((*rest)->job);
  }
  co_return jobs;
}

/// A journal that does not take it has them until a later start.
Task<void> forget_records(Journal& journal, std::vector<std::string> ids) {
  if (ids.empty()) co_return;
  const auto needed = co_await jobs_of_hydrations(journal);
  if (!needed) co_return;
  std::erase_if(ids, [&needed](const std::string& id) { return needed->contains(id); });
  if (ids.empty()) co_return;
  JournalBatch batch;
  batch.removed_jobs = std::move(ids);
  // Not worth a journal that is full.
  Status forgotten = co_await journal.reserve(batch);
  if (forgotten.ok()) forgotten = co_await journal.commit(batch);
  static_cast<void>(forgotten);
}
}  // namespace

JobBoard::JobBoard(EventLoop& loop, Journal& journal)
    : loop_(loop), journal_(journal), bandwidth_(loop), leftovers_(loop) {}
JobBoard::~JobBoard() = default;

Task<Status> JobBoard::load() {
  const auto records = co_await journal_.load_jobs();
  if (!records.ok()) co_return records.error();
  for (const JobRecord& record : *records) {
    next_id_ = std::max(next_id_, job_number(record.id) + 1);
  }
  auto old = find_forgettable(*records, kEndedJobsKept);
  co_await forget_records(journal_, std::move(old));
  co_return Status();
}

Error JobBoard::busy_with(const std::string& disk) const {
  const std::string job = job_of(disk);
  const Result<JobStatus> running = status(job);
  if (running.ok() && running->phase == Phase::kHydrating) {
    return Error(ErrorCode::kBusy, "disk '" + disk + "' is not whole yet, " + job +
                                       " is hydrating: " + ways_on(disk, running->source_uri));
  }
  return Error(ErrorCode::kBusy, "disk '" + disk + "' is being migrated by " + job +
                                     ": wait for it, or abort it with 'blockmig abort " + job +
                                     "'");
}

Status JobBoard::check_start(Disk& disk, const JobOptions& options,
                             const DirtyBitmap* recovered) const {
  if (stopping_) return Error(ErrorCode::kShutdown, "the daemon is stopping");
  const Status valid = check_options(options);
  if (!valid.ok()) return valid;
  const Status free = check_free(disk, recovered);
  if (!free.ok()) return free;
  const auto* const layer = hydrating_layer(disk);
  if (layer == nullptr || !may_pivot(options)) return {};
  // What would be left behind is not the source's to give: the rest of it is elsewhere.
  return Error(ErrorCode::kPrecondition,
               "disk " + disk.name() + " still fetches from " + layer->record().base_uri +
                   ": settle it first ('blockmig settle " + disk.name() +
                   "'), or move it in a mode that copies all of it before it switches over (dbt, "
                   "mirror), without --on-stall postcopy");
}

Status JobBoard::check_record(Disk& disk, const JobOptions& options) {
  const auto* const layer = hydrating_layer(disk);
  if (!options.keep_record || layer == nullptr || layer->whole()) return {};
  return Error(ErrorCode::kPrecondition,
               "disk " + disk.name() + " still fetches from " + layer->record().base_uri +
                   ", so it could not return to " + disk.store_uri() +
                   ", which does not have all of it: settle it first ('blockmig settle " +
                   disk.name() + "'), or move it without --keep-record");
}

Status JobBoard::check_free(Disk& disk, const DirtyBitmap* recovered) const {
  if (!job_of(disk.name()).empty()) return busy_with(disk.name());
  const DirtyBitmap* const tracked = disk.tracking().job();
  if (tracked == nullptr || tracked == recovered) return {};
  return Error(ErrorCode::kBusy, "disk '" + disk.name() +
                                     "' has a move of an earlier daemon, which is being taken up "
                                     "or given up: try again in a moment");
}

void JobBoard::forget_oldest() {
  std::size_t ended = 0;
  const auto may_go = [](const auto& job) { return job->ended() && !job->keeps_record(); };
  for (const auto& job : jobs_) ended += may_go(job) ? 1 : 0;
  std::vector<std::string> forgotten;
  for (auto at = jobs_.begin(); ended > kEndedJobsKept; --ended) {
    at = std::find_if(at, jobs_.end(), may_go);
    forgotten.push_back((*at)->id());
    at = jobs_.erase(at);
  }
  auto task = forget_records(journal_, std::move(forgotten));
  scope_.spawn(std::move(task));
}

void JobBoard::launch(std::shared_ptr<Job> job) {
  forget_oldest();
  jobs_.push_back(std::move(job));
  if (yields_) jobs_.back()->yield();
  auto task = jobs_.back()->run();
  scope_.spawn(std::move(task));
}

Result<std::string> JobBoard::start(Disk& disk, std::unique_ptr<TargetOpener> target,
                                    const JobOptions& options, std::string request) {
  Status allowed = check_start(disk, options);
  if (allowed.ok()) allowed = check_record(disk, options);
  if (allowed.ok() && yields_) {
    allowed =
        Error(ErrorCode::kBusy, "another daemon is taking this one's place: try again in a moment");
  }
  if (!allowed.ok()) return allowed.error();
  std::string id = kJobIdPrefix + std::to_string(next_id_++);
  std::shared_ptr<TargetOpener> opener = std::move(target);
  launch(std::make_shared<Job>(loop_, journal_, bandwidth_, disk, std::move(opener), id, options,
                               std::move(request), leftovers_));
  return id;
}

Result<std::string> JobBoard::hydrate(Disk& disk, HydratingDevice& hydrating,
                                      const JobOptions& options, std::string request, bool paused,
                                      bool begins) {
  if (stopping_) return Error(ErrorCode::kShutdown, "the daemon is stopping");
  const Status free = check_free(disk);
  if (!free.ok()) return free.error();
  // The job of an earlier opening of the same disk has ended.
  std::erase_if(jobs_, [&hydrating](const auto& job) {
    return job->ended() && job->id() == hydrating.record().job;
  });
  auto job = std::make_shared<Job>(loop_, journal_, bandwidth_, disk, hydrating, options,
                                   std::move(request), leftovers_);
  if (paused) job->begin_paused(kPausedBefore);
  if (!begins) job->note_interruption(Phase::kHydrating);
  launch(std::move(job));
  return jobs_.back()->id();
}

Result<std::string> JobBoard::resume_recorded(Disk& disk, std::unique_ptr<TargetOpener> target,
                                              const JobOptions& options, const JobRecord& record,
                                              RecoveredTracking& recovered, bool resumed) {
  const Status allowed = check_start(disk, options, recovered.dirty.get());
  if (!allowed.ok()) return allowed.error();
  std::shared_ptr<TargetOpener> opener = std::move(target);
  auto job = std::make_shared<Job>(loop_, journal_, bandwidth_, disk, std::move(opener), record.id,
                                   options, record.request, leftovers_);
  job->go_on(std::move(recovered), record);
  if (options.on_restart == OnRestart::kPause && !resumed) {
    job->begin_paused("its daemon was started again (--on-restart pause)");
  } else if (record.state == to_string(JobState::kPaused)) {
    job->begin_paused(kPausedBefore);
  }
  launch(std::move(job));
  return record.id;
}

std::shared_ptr<Job> JobBoard::share(const std::string& id) const {
  for (const auto& job : jobs_) {
    if (job->id() == id) return job;
  }
  return nullptr;
}

Job* JobBoard::find(const std::string& id) const { return share(id).get(); }

namespace {
Error no_such_job(const std::string& id) {
  return Error(ErrorCode::kNotFound, "no job '" + id + "'");
}
}  // namespace

void JobBoard::interrupt(const std::string& id) {
  if (Job* const job = find(id); job != nullptr) job->interrupt();
}

Status JobBoard::abort(const std::string& id) {
  Job* job = find(id);
  return job != nullptr ? job->abort() : no_such_job(id);
}

Status JobBoard::pause(const std::string& id) {
  Job* job = find(id);
  return job != nullptr ? job->pause() : no_such_job(id);
}

Status JobBoard::resume(const std::string& id) {
  Job* job = find(id);
  return job != nullptr ? job->resume() : no_such_job(id);
}

Status JobBoard::change(const std::string& id, const JobChange& change) {
  Job* job = find(id);
  return job != nullptr ? job->change(change) : no_such_job(id);
}

Result<JobStatus> JobBoard::status(const std::string& id) const {
  const Job* job = find(id);
  if (job == nullptr) return no_such_job(id);
  return job->status();
}

std::string JobBoard::request_of(const std::string& id) const {
  const Job* job = find(id);
  return job != nullptr ? job->request() : std::string();
}

std::vector<std::string> JobBoard::recorded_targets(const std::string& disk) const {
  std::vector<std::string> targets;
  for (const auto& job : jobs_) {
    if (job->disk_name() != disk || (job->ended() && !job->keeps_record())) continue;
    targets.push_back(job->status().target_uri);
  }
  return targets;
}

std::vector<JobStatus> JobBoard::list() const {
  std::vector<JobStatus> all;
  for (const auto& job : jobs_) all.push_back(job->status());
  return all;
}

std::string JobBoard::job_of(const std::string& disk) const {
  for (const auto& job : jobs_) {
    if (job->disk_name() == disk && !job->ended()) return job->id();
  }
  return {};
}

Task<Result<JobStatus>> JobBoard::wait_begun(const std::string& id) {
  const std::shared_ptr<Job> job = share(id);
  if (job == nullptr) co_return no_such_job(id);
  co_await job->begun_event().wait();
  co_return job->status();
}

Task<Result<JobStatus>> JobBoard::wait(const std::string& id) {
  const std::shared_ptr<Job> job = share(id);
  if (job == nullptr) co_return no_such_job(id);
  co_await job->ended_event().wait();
  co_return job->status();
}

Status JobBoard::check_leaving() const {
  for (const auto& job : jobs_) {
    const bool goes_on = job->goes_on_after_restart() || job->status().switched;
    if (job->ended() || goes_on) continue;
    return Error(ErrorCode::kBusy,
                 "disk '" + job->disk_name() + "' is being migrated by " + job->id() +
                     ", which would end with this daemon (--on-restart abort): wait for it, or "
                     "abort it with 'blockmig abort " +
                     job->id() + "'");
  }
  return {};
}

Task<Status> JobBoard::yield(Duration patience) {
  const TimePoint deadline = loop_.now() + patience;
  auto recording = rest_and_record(jobs_, deadline);
  co_await recording;
  Status rest = co_await name_restless(deadline);
  co_return rest;
}

Task<void> JobBoard::record_progress(Duration patience) {
  std::vector<std::shared_ptr<Job>> jobs = jobs_;
  std::erase_if(jobs, [](const auto& job) { return !job->goes_on_after_restart(); });
  co_await rest_and_record(std::move(jobs), loop_.now() + patience);
}

Task<void> JobBoard::rest_and_record(std::vector<std::shared_ptr<Job>> jobs, TimePoint deadline) {
  yields_ = true;
  for (const auto& job : jobs) job->yield();
  std::vector<std::shared_ptr<Job>> recording;
  while ((!jobs.empty() || !recording.empty()) && loop_.now() < deadline) {
    const auto rest = std::partition(jobs.begin(), jobs.end(),
                                     [](const auto& job) { return !job->unrest().empty(); });
    for (auto job = rest; job != jobs.end(); ++job) {
      (*job)->record_now();
      recording.push_back(*job);
    }
    jobs.erase(rest, jobs.end());
    std::erase_if(recording, [](const auto& job) { return !job->is_recording(); });
    if (!jobs.empty() || !recording.empty()) co_await sleep_for(loop_, kRestPoll);
  }
}

Task<Status> JobBoard::name_restless(TimePoint deadline) {
  const auto jobs = jobs_;  // one may be forgotten meanwhile
  for (const auto& job : jobs) {
    std::string why = job->unrest();
    while ((!why.empty() || job->is_recording()) && loop_.now() < deadline) {
      co_await sleep_for(loop_, kRestPoll);
      why = job->unrest();
    }
    if (why.empty() && job->is_recording()) why = "its target is slow to flush";
    if (why.empty()) continue;
    co_return Error(ErrorCode::kBusy, job->id() + " of disk '" + job->disk_name() +
                                          "' cannot be left to another daemon now: " + why +
                                          ": try again, or see 'blockmig status " + job->id() +
                                          "'");
  }
  co_return Status();
}

void JobBoard::stay() {
  yields_ = false;
  for (const auto& job : jobs_) job->stay();
}

bool JobBoard::all_ended() const {
  return std::all_of(jobs_.begin(), jobs_.end(), [](const auto& job) { return job->ended(); });
}

Task<void> JobBoard::stop(AtStop what) {
  stopping_ = true;
  for (const auto& job : jobs_) {
    if (job->ended()) continue;
    job->interrupt();
    const bool suspends = what == AtStop::kSuspend && job->goes_on_after_restart();
    const Status ends = suspends ? job->suspend() : job->abort();
    static_cast<void>(ends);  // past its decision: it ends by itself
  }
  Event all_ended(loop_);
  TaskScope beside;
  auto cutting = cut_unanswered(all_ended);
  beside.spawn(std::move(cutting));
  co_await scope_.join();
  co_await leftovers_.tasks.join();
  all_ended.set();
  co_await beside.join();
}

Task<void> JobBoard::cut_unanswered(Event& all_ended) {
  bool ended = false;
  while (!ended) {
    const TimePoint until = loop_.now() + kAnswersAtStop;
    ended = co_await all_ended.wait_until(until);
    if (!ended) leftovers_.unanswered.cut();
  }
}

std::vector<Unanswered::Place> JobBoard::unanswered() const {
  return leftovers_.unanswered.places();
}

Task<void> JobBoard::wait_answered(std::string uri, Duration patience) {
  const TimePoint deadline = loop_.now() + patience;
  const bool answered = co_await leftovers_.unanswered.wait(std::move(uri), deadline);
  static_cast<void>(answered);  // unanswered() says so
}

Task<void> JobBoard::leave_disk(std::string disk) {
  const auto jobs = jobs_;  // a job may begin meanwhile
  for (const auto& job : jobs) {
    if (job->disk_name() == disk) co_await job->leave_disk();
  }
}

Task<void> JobBoard::leave_disks() {
  for (const auto& job : jobs_) co_await job->leave_disk();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// MigrationService's part in commands to jobs that are there: shows and steers them.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/io/event.h"
#include "tools/control/json.h"
#include "tools/daemon/job_changes.h"
#include "tools/daemon/migration_service.h"
#include "tools/daemon/restart_service.h"

namespace blockmig {
namespace {

/// Of an abort, at the latest: with the rest it takes less than the 100 ms of any control command.
constexpr Duration kAbortAnswered = std::chrono::milliseconds(80);
constexpr const char* kNotRemembered = "done, but a restart will not know of it";

}  // namespace

std::vector<JobStatus> MigrationService::list() const {
  std::vector<JobStatus> all = history_;
  for (JobStatus& job : all) {
    if (restarts_ != nullptr) restarts_->show(job, service_.why_late(job.disk));
  }
  for (JobStatus& job : jobs_.list()) {
    std::erase_if(all, [&job](const JobStatus& old) { return old.id == job.id; });
    all.push_back(completed(std::move(job)));
  }
  return all;
}

std::string MigrationService::what_a_restart_does(const JobStatus& job) const {
  const Result<MigrateRequest> request = migrate_request_from_json(jobs_.request_of(job.id));
  std::string what = "is suspended: the next daemon goes on with it";
  if (!request.ok()) return what;
  if (job.point_in_time) {
    what = "is suspended: the next daemon begins it anew, as of a later instant";
  } else if (!is_recorded(request->options)) {
    what = "is suspended: the next daemon begins it anew";
  }
  if (request->options.on_restart != OnRestart::kPause) return what;
  return what + " when 'blockmig resume " + job.disk + "' says so (--on-restart pause)";
}

Result<JobStatus> MigrationService::find(const std::string& job_or_disk) const {
  Result<JobStatus> exact = jobs_.status(job_or_disk);
  if (exact.ok()) return completed(*std::move(exact));
  const std::string running = jobs_.job_of(job_or_disk);
  if (!running.empty()) {
    Result<JobStatus> job = jobs_.status(running);
    if (job.ok()) return completed(*std::move(job));
  }
  std::vector<JobStatus> all = list();
  for (auto job = all.rbegin(); job != all.rend(); ++job) {
    if (job->id == job_or_disk) return *std::move(job);
  }
  for (auto job = all.rbegin(); job != all.rend(); ++job) {
    if (job->disk == job_or_disk) return *std::move(job);
  }
  const auto disk = disks_.get(job_or_disk);
  if (!disk.ok() && disks_.is_late(job_or_disk)) return disk.error();
  return Error(ErrorCode::kNotFound,
               disk.ok()
                   ? "disk '" + job_or_disk + "' has no job: start one with 'blockmig migrate " +
                         job_or_disk + " --to STORE'"
                   : "no such job or disk: '" + job_or_disk + "': see 'blockmig ls jobs'");
}

Result<std::string> MigrationService::resolve(const std::string& job_or_disk) const {
  const Result<JobStatus> job = find(job_or_disk);
  if (!job) return job.error();
  if (!is_final(job->state)) return job->id;
  return Error(ErrorCode::kPrecondition, job->id + " of disk '" + job->disk +
                                             "' has ended: it is " +
                                             std::string(to_string(job->state)));
}

Result<JobStatus> MigrationService::status_after(const std::string& id, const Status& done) const {
  if (!done) return done.error();
  return jobs_.status(id);
}

std::string MigrationService::disk_waited_for(const std::string& id) const {
  const Result<JobStatus> job = find(id);
  return job.ok() && waits_for_disk(*job) ? job->disk : std::string();
}

bool MigrationService::waits_for_disk(const JobStatus& job) const {
  return restarts_ != nullptr && !is_final(job.state) && !jobs_.status(job.id).ok();
}

Task<Result<JobStatus>> MigrationService::abort(std::string job_or_disk) {
  const Result<std::string> id = resolve(job_or_disk);
  if (!id) co_return id.error();
  std::string disk = disk_waited_for(*id);
  if (disk.empty()) {
    const Status aborted = jobs_.abort(*id);
    if (aborted) co_await remember_abort(*id);
    co_return status_after(*id, aborted);
  }
  const Status ended = co_await restarts_->abort(std::move(disk));
  if (!ended) co_return ended.error();
  co_return find(*id);
}

/// A job ends only when its source has answered, and no restart may go on with it meanwhile. But an
/// abort is answered soon also where the journal hangs.
Task<void> MigrationService::remember_abort(std::string id) {
  auto saved = std::make_shared<Event>(loop_);
  auto saving = keep_abort(id, saved);
  reports_.spawn(std::move(saving));
  const TimePoint latest = loop_.now() + kAbortAnswered;
  const bool in_time = co_await saved->wait_until(latest);
  static_cast<void>(in_time);
}

Task<void> MigrationService::keep_abort(std::string id, std::shared_ptr<Event> saved) {
  const Status noted = co_await save_abort(journal_, id);
  saved->set();
  if (!noted) log_.warning(noted.error().message(), {"", id, 0});
  co_await forget_if_ended(id);
}

/// A job that ends while something is noted of it may be first to remove its notes.
Task<void> MigrationService::forget_if_ended(std::string id) {
  const Result<JobStatus> job = jobs_.status(id);
  if (job.ok() && (!is_final(job->state) || job->suspended)) co_return;
  const Status forgotten = co_await forget_job_change(journal_, id);
  static_cast<void>(forgotten);  // nobody looks for the notes of a job that has ended
}

Task<Result<JobStatus>> MigrationService::pause(std::string job_or_disk) {
  Result<JobStatus> paused = co_await set_paused(std::move(job_or_disk), true);
  co_return std::move(paused);
}

Task<Result<JobStatus>> MigrationService::resume(std::string job_or_disk) {
  Result<JobStatus> resumed = co_await set_paused(std::move(job_or_disk), false);
  co_return std::move(resumed);
}

Task<Result<JobStatus>> MigrationService::set_paused(std::string job_or_disk, bool paused) {
  const Result<std::string> id = resolve(job_or_disk);
  if (!id) co_return id.error();
  std::string disk = disk_waited_for(*id);
  if (!disk.empty()) {
    const Status said = co_await restarts_->set_paused(std::move(disk), paused);
    if (!said) co_return said.error();
    co_return find(*id);
  }
  const Status done = paused ? jobs_.pause(*id) : jobs_.resume(*id);
  if (done) {
    const Status saved = co_await remember_pause(*id, paused);
    if (!saved) co_return saved.error().with_context(kNotRemembered);
  }
  co_return status_after(*id, done);
}

Task<Status> MigrationService::remember_pause(std::string id, bool paused) {
  pauses_[id] = paused;
  co_await saving_.acquire(1);
  const Result<JobStatus> job = jobs_.status(id);
  const auto said = pauses_.find(id);
  Status saved;
  if (said != pauses_.end() && job.ok() && !is_final(job->state)) {
    const bool last = said->second;
    pauses_.erase(said);
    saved = co_await save_pause(journal_, id, last);
  }
  saving_.release(1);
  co_await forget_if_ended(id);
  co_return saved;
}

Task<Result<JobStatus>> MigrationService::change(std::string job_or_disk, JobChange change) {
  const Result<std::string> id = resolve(job_or_disk);
  if (!id) co_return id.error();
  const std::string late = disk_waited_for(*id);
  if (!late.empty()) {
    co_return Error(ErrorCode::kPrecondition, *id + " waits for its disk '" + late +
                                                  "', which is not served yet: set it when it is");
  }
  const Result<JobStatus> changed = status_after(*id, jobs_.change(*id, change));
  if (!changed) co_return changed.error();
  const Status saved = co_await remember_change(*id);
  if (!saved) co_return saved.error().with_context(kNotRemembered);
  co_return changed;
}

/// What is set by now: of several changes at once the last one is saved last.
Task<Status> MigrationService::remember_change(std::string id) {
  co_await saving_.acquire(1);
  const Result<JobStatus> job = jobs_.status(id);
  Status saved;
  if (job.ok() && !is_final(job->state)) saved = co_await save_job_change(journal_, *job);
  saving_.release(1);
  co_await forget_if_ended(id);
  co_return saved;
}

Task<Status> MigrationService::set_daemon_rate(std::uint64_t bytes_per_second) {
  jobs_.bandwidth().set_rate(bytes_per_second);
  co_await saving_.acquire(1);
  const Status saved = co_await save_daemon_rate(journal_, jobs_.bandwidth().rate());
  saving_.release(1);
  if (!saved) co_return saved.error().with_context(kNotRemembered);
  co_return saved;
}

Task<Status> MigrationService::load_daemon_rate(std::optional<std::uint64_t> given) {
  auto rate = Result<std::uint64_t>(given.value_or(0));
  if (!given) rate = co_await blockmig::load_daemon_rate(journal_);
  if (!rate) co_return rate.error();
  jobs_.bandwidth().set_rate(*rate);
  co_return Status();
}

}  // namespace blockmig

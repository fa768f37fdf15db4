// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/event_report.h"

#include <utility>

#include "blockmig/base/units.h"
#include "blockmig/block/store_health.h"

namespace blockmig {
namespace {

constexpr Duration kInterval = std::chrono::milliseconds(200);

/// The daemon ends in mid-hydration: no fault of the job, which goes on when the disk is served
/// again.
bool is_interrupted(const JobStatus& job) {
  return job.state == JobState::kFailed && job.error && job.error->code() == ErrorCode::kShutdown;
}

std::string end_text(const JobStatus& job) {
  const std::string_view end = job.suspended         ? "suspended"
                               : is_interrupted(job) ? "interrupted"
                                                     : to_string(job.state);
  std::string text = "job " + std::string(end) + ": " + job.source_uri + " to " + job.target_uri +
                     ", " + format_bytes(job.bytes_copied) + " copied";
  if (job.state == JobState::kDone) {
    text += ", stall " + format_duration(Duration(static_cast<Duration::rep>(job.stall_ms * 1e6)));
  }
  if (job.error) text += ": " + job.error->message();
  return text;
}

}  // namespace

Task<void> EventReport::run(CancelSource& cancel) {
  // What earlier daemons did has been logged by them.
  for (const JobStatus& job : jobs_.list()) {
    if (is_final(job.state)) seen_jobs_.of(job.id).first = {job.state, job.phase, job.verdict};
  }
  while (!cancel.cancelled()) {
    look();
    co_await cancel.event().wait_until(loop_.now() + kInterval);
  }
  look();
}

void EventReport::look() {
  connections_.tick();
  rates_.sample(loop_.now());
  look_at_journal();
  const std::vector<JobStatus> jobs = jobs_.list();
  for (const JobStatus& job : jobs) {
    // Of its disk it has been said that it is late.
    if (!jobs_.waits_for_disk(job)) look_at_job(job);
  }
  seen_jobs_.keep_only(jobs);
  for (const auto& disk : disks_.disks()) look_at_store(*disk);
}

/// Once: it does not work again in this process.
void EventReport::look_at_journal() {
  const Status health = journal_.health();
  if (health.ok() || std::exchange(seen_journal_failure_, true)) return;
  log_.error(
      "the journal has failed: disks are served on, but nothing is recorded and no move can "
      "be decided until the daemon is restarted: " +
      health.error().message());
}

void EventReport::look_at_store(ServedDisk& disk) {
  const std::string trouble = trouble_of(disk.disk().store());
  std::string& seen = seen_trouble_[disk.name()];
  if (trouble == seen) return;
  LogFields fields;
  fields.disk = disk.name();
  fields.epoch = disk.disk().epoch();
  if (trouble.empty()) {
    log_.info("the store answers again", fields);
  } else {
    log_.warning("store: " + trouble, fields);
  }
  seen = trouble;
}

void EventReport::look_at_job(const JobStatus& job) {
  const auto [seen, fresh] = seen_jobs_.of(job.id);
  LogFields fields;
  fields.disk = job.disk;
  fields.job = job.id;
  fields.epoch = job.epoch;
  const bool begins = !is_final(job.state) && (fresh || is_final(seen.state));
  if (begins) {
    seen = {};
    log_.info("job started: " + std::string(to_string(job.mode)) + " to " + job.target_uri, fields);
  }
  if (seen.verdict != job.verdict && !job.verdict.empty()) log_.info(job.verdict, fields);
  if (seen.phase != job.phase && job.phase != Phase::kEnded) {
    log_.info("phase " + std::string(to_string(job.phase)), fields);
  }
  if (seen.state != job.state) {
    std::string text =
        is_final(job.state) ? end_text(job) : "job " + std::string(to_string(job.state));
    if (!job.paused_because.empty()) text += ": " + job.paused_because;
    const bool held = job.state == JobState::kPaused && job.error;
    const bool failed = job.state == JobState::kFailed && !is_interrupted(job);
    log_.write(failed ? LogLevel::kError
               : held ? LogLevel::kWarning
                      : LogLevel::kInfo,
               text, fields);
  }
  seen = {job.state, job.phase, job.verdict};
}

}  // namespace blockmig

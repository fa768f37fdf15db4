// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/job_changes.h"

#include "tools/control/json.h"

namespace blockmig {
namespace {

constexpr const char* kJobTopic = "job-change";
constexpr const char* kPauseTopic = "job-pause";
constexpr const char* kPaused = "paused";
constexpr const char* kAbortTopic = "job-abort";
constexpr const char* kDaemonTopic = "daemon";
constexpr const char* kRateName = "bwlimit";

Task<Status> save_note(Journal& journal, NoteRecord note) {
  JournalBatch batch;
  batch.notes.push_back(std::move(note));
  const Status saved = co_await journal.commit(batch);
  co_return saved;
}

}  // namespace

Task<Status> save_job_change(Journal& journal, const JobStatus& job) {
  JobChange change;
  change.bwlimit_bytes_per_second = job.bwlimit_bytes_per_second;
  change.priority = job.priority;
  change.max_downtime = std::chrono::duration_cast<Duration>(
      std::chrono::duration<double, std::milli>(job.max_downtime_ms));
  NoteRecord note{kJobTopic, job.id, to_json(change)};
  const Status saved = co_await save_note(journal, std::move(note));
  co_return saved;
}

Task<Status> apply_job_change(Journal& journal, const std::string& id, JobOptions& options) {
  const std::string topic = kJobTopic;
  const auto note = co_await journal.load_note(topic, id);
  if (!note) co_return note.error();
  if (!note->has_value()) co_return Status();
  const Result<JobChange> change = job_change_from_json((*note)->text);
  if (!change) co_return change.error().with_context("what was set of " + id);
  change->apply_to(options);
  co_return Status();
}

Task<Status> save_pause(Journal& journal, const std::string& id, bool paused) {
  NoteRecord note{kPauseTopic, id, paused ? kPaused : "resumed"};
  const Status saved = co_await save_note(journal, std::move(note));
  co_return saved;
}

Task<Result<std::optional<bool>>> load_pause(Journal& journal, const std::string& id) {
  const std::string topic = kPauseTopic;
  const auto note = co_await journal.load_note(topic, id);
  if (!note) co_return note.error();
  if (!note->has_value()) co_return std::optional<bool>();
  co_return std::optional<bool>((*note)->text == kPaused);
}

NoteRecord abort_note(const std::string& id) { return {kAbortTopic, id, "aborted"}; }

Task<Status> save_abort(Journal& journal, const std::string& id) {
  NoteRecord note = abort_note(id);
  const Status saved = co_await save_note(journal, std::move(note));
  co_return saved;
}

Task<Result<bool>> load_abort(Journal& journal, const std::string& id) {
  const std::string topic = kAbortTopic;
  const auto note = co_await journal.load_note(topic, id);
  if (!note) co_return note.error();
  co_return note->has_value();
}

std::vector<NoteRecord> notes_of_job(const std::string& id) {
  std::vector<NoteRecord> notes;
  for (const char* const topic : {kJobTopic, kPauseTopic, kAbortTopic, kJobReportTopic}) {
    notes.push_back({topic, id, ""});
  }
  return notes;
}

Task<Status> forget_job_change(Journal& journal, const std::string& id) {
  JournalBatch batch;
  batch.removed_notes = notes_of_job(id);
  const Status removed = co_await journal.commit(batch);
  co_return removed;
}

Task<Status> save_daemon_rate(Journal& journal, std::uint64_t bytes_per_second) {
  NoteRecord note{kDaemonTopic, kRateName, bwlimit_to_json(bytes_per_second)};
  const Status saved = co_await save_note(journal, std::move(note));
  co_return saved;
}

Task<Result<std::uint64_t>> load_daemon_rate(Journal& journal) {
  const auto notes = co_await journal.load_notes(kDaemonTopic);
  if (!notes) co_return notes.error();
  for (const NoteRecord& note : *notes) {
    if (note.name == kRateName) co_return bwlimit_from_json(note.text);
  }
  co_return std::uint64_t{0};
}

}  // namespace blockmig

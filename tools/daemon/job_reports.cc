// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/job_reports.h"

#include <algorithm>
#include <utility>

#include "tools/control/json.h"
#include "tools/daemon/job_changes.h"

namespace blockmig {
namespace {

constexpr Duration kLook = std::chrono::seconds(1);

}  // namespace

Task<Status> JobReports::load(std::string id) {
  std::erase_if(earlier_, [this](const auto& old) { return !jobs_.status(old.first).ok(); });
  const std::string topic = kJobReportTopic;
  const auto note = co_await journal_.load_note(topic, id);
  if (!note) co_return note.error();
  if (!note->has_value()) co_return Status();
  Result<JobStatus> earlier = job_from_json((*note)->text);
  if (!earlier)
    co_return earlier.error().with_context("the report of " + id + " before the restart");
  earlier_[id] = *std::move(earlier);
  co_return Status();
}

Task<void> JobReports::keep(std::string id, Event& ended) {
  std::size_t decisions = 0;
  TimePoint due = loop_.now();
  while (!ended.is_set()) {
    const TimePoint next = loop_.now() + kLook;
    co_await ended.wait_until(next);
    Result<JobStatus> job = jobs_.status(id);
    if (ended.is_set() || !job) co_return;
    const bool decided = job->decisions.size() != decisions;
    if (!decided && loop_.now() < due) continue;
    decisions = job->decisions.size();
    due = loop_.now() + kInterval;
    const Status saved = co_await save(*std::move(job));
    static_cast<void>(saved);  // nothing rests on it
  }
}

Task<Status> JobReports::save(JobStatus job) {
  JournalBatch batch;
  batch.notes.push_back({kJobReportTopic, job.id, to_json(whole(job))});
  const Status saved = co_await journal_.commit(batch);
  co_return saved;
}

JobStatus JobReports::whole(JobStatus job) const {
  const auto earlier = earlier_.find(job.id);
  return earlier == earlier_.end() ? job : joined(earlier->second, std::move(job));
}

JobStatus joined(const JobStatus& earlier, JobStatus job) {
  job.earlier_seconds = earlier.earlier_seconds + earlier.elapsed_seconds;
  for (Decision& decision : job.decisions) decision.at_seconds += job.earlier_seconds;
  std::vector<Decision> all = earlier.decisions;
  all.push_back({job.earlier_seconds, "goes on",
                 "the daemon was started again" +
                     (job.interrupted_in.empty() ? "" : "; the job was " + job.interrupted_in)});
  std::move(job.decisions.begin(), job.decisions.end(), std::back_inserter(all));
  job.decisions = std::move(all);
  job.decisions_dropped += earlier.decisions_dropped;
  while (job.decisions.size() > kMaxDecisions) {
    job.decisions.erase(job.decisions.begin() + kMaxDecisions / 2);
    ++job.decisions_dropped;
  }
  if (earlier.guest_before.requests != 0) job.guest_before = earlier.guest_before;
  if (job.bytes_unchanged == 0) job.bytes_unchanged = earlier.bytes_unchanged;
  job.switchovers_postponed += earlier.switchovers_postponed;
  job.postponed_ms += earlier.postponed_ms;
  job.mirror_deadline_misses += earlier.mirror_deadline_misses;
  job.mirror_fallbacks += earlier.mirror_fallbacks;
  job.longest_mirror_wait_ms = std::max(job.longest_mirror_wait_ms, earlier.longest_mirror_wait_ms);
  job.longest_request_ms = std::max(job.longest_request_ms, earlier.longest_request_ms);
  job.stall_ms = std::max(job.stall_ms, earlier.stall_ms);
  return job;
}

}  // namespace blockmig

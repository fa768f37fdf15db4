// SPDX-License-Identifier: Apache-2.0
// What was set while the daemon ran, as notes of the journal, for the daemon after it: of a job
// until it ends, of the daemon until it is set again. Thread rule: the loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/job_status.h"

namespace blockmig {

/// Of the notes with reports (job_reports.h).
inline constexpr const char* kJobReportTopic = "job-report";

/// What of `job` can be changed, as it is now.
Task<Status> save_job_change(Journal& journal, const JobStatus& job);
/// Puts what was set of job `id` into `options`; nothing where nothing was.
Task<Status> apply_job_change(Journal& journal, const std::string& id, JobOptions& options);
/// Whether an operator wants job `id` to wait. A note and not the job's record, which also the job
/// writes: two commits that are under way at once may happen in either order.
Task<Status> save_pause(Journal& journal, const std::string& id, bool paused);
/// The last word of an operator; nothing: none was said.
Task<Result<std::optional<bool>>> load_pause(Journal& journal, const std::string& id);
/// An operator has aborted job `id`: a restart before its end does not go on with it.
NoteRecord abort_note(const std::string& id);
Task<Status> save_abort(Journal& journal, const std::string& id);
Task<Result<bool>> load_abort(Journal& journal, const std::string& id);
/// For a batch's `removed_notes`, with the end of job `id`.
std::vector<NoteRecord> notes_of_job(const std::string& id);
/// The job has ended: they go now.
Task<Status> forget_job_change(Journal& journal, const std::string& id);

/// In bytes per second; 0: none, also where nothing was ever set.
Task<Status> save_daemon_rate(Journal& journal, std::uint64_t bytes_per_second);
Task<Result<std::uint64_t>> load_daemon_rate(Journal& journal);

}  // namespace blockmig

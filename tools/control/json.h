// SPDX-License-Identifier: Apache-2.0
// Values to JSON text and back. Decoding judges hostile text: every error is a Result that names
// the field; unknown fields are refused in requests (a misspelt option must not be ignored) and
// ignored in answers (an older client reads a newer daemon). Pure functions; any thread.
#pragma once

#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/migrate/job_status.h"
#include "tools/control/channel.h"
#include "tools/control/messages.h"

namespace blockmig {

enum class JsonStyle {
  kCompact,  ///< one line
  kPretty,   ///< indented by two
};

std::string to_json(const JobStatus& job, JsonStyle style = JsonStyle::kCompact);
Result<JobStatus> job_from_json(const std::string& text);
std::string to_json(const std::vector<JobStatus>& jobs, JsonStyle style = JsonStyle::kCompact);
Result<std::vector<JobStatus>> jobs_from_json(const std::string& text);

std::string to_json(const DiskView& disk, JsonStyle style = JsonStyle::kCompact);
Result<DiskView> disk_from_json(const std::string& text);
std::string to_json(const std::vector<DiskView>& disks, JsonStyle style = JsonStyle::kCompact);
Result<std::vector<DiskView>> disks_from_json(const std::string& text);

std::string to_json(const ClientView& client, JsonStyle style = JsonStyle::kCompact);
std::string to_json(const BitmapView& bitmap, JsonStyle style = JsonStyle::kCompact);
std::string to_json(const std::vector<ClientView>& clients, JsonStyle style = JsonStyle::kCompact);
Result<std::vector<ClientView>> clients_from_json(const std::string& text);

std::string to_json(const std::vector<BitmapView>& bitmaps, JsonStyle style = JsonStyle::kCompact);
Result<std::vector<BitmapView>> bitmaps_from_json(const std::string& text);

std::string to_json(const CompareReport& report, JsonStyle style);
std::string to_json(const ManifestReport& report, JsonStyle style);

/// GET /v1/status: the daemon, its disks, its jobs, its clients.
struct Overview {
  DaemonView daemon;
  std::vector<DiskView> disks;
  std::vector<JobStatus> jobs;
  std::vector<ClientView> clients;
};
std::string to_json(const Overview& overview, JsonStyle style = JsonStyle::kCompact);
Result<Overview> overview_from_json(const std::string& text);

std::string to_json(const ServeRequest& request);
Result<ServeRequest> serve_request_from_json(const std::string& text);
std::string to_json(const MigrateRequest& request);
Result<MigrateRequest> migrate_request_from_json(const std::string& text);
std::string to_json(const BitmapSpec& bitmap);
Result<BitmapSpec> bitmap_from_json(const std::string& text);
std::string to_json(const BitmapMerge& merge);
Result<BitmapMerge> bitmap_merge_from_json(const std::string& text);

/// The body of POST /v1/jobs/ID/set: at least one of its fields.
std::string to_json(const JobChange& change);
Result<JobChange> job_change_from_json(const std::string& text);
/// The body of POST /v1/daemon/set.
std::string bwlimit_to_json(std::uint64_t bytes_per_second);
Result<std::uint64_t> bwlimit_from_json(const std::string& text);

/// {"error":{"code","message"}} with the status that the code stands for.
ControlResponse error_response(const Error& error);
/// The error that such a response carries; one that says what came instead, if it carries none.
Error error_from_response(const ControlResponse& response);

}  // namespace blockmig

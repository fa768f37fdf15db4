// SPDX-License-Identifier: Apache-2.0
// Lists as tables for people. Pure; columns are as wide as their widest entry, two spaces apart.
#pragma once

#include <string>
#include <vector>

#include "blockmig/migrate/job_status.h"
#include "tools/control/json.h"
#include "tools/control/messages.h"

namespace blockmig {

/// The first row is the heading.
std::string render_table(const std::vector<std::vector<std::string>>& rows);

/// What the disks do now: rates and latencies of the last second, and what is in flight.
std::string activity_table(const std::vector<DiskView>& disks);
/// The kinds of requests that a disk has had; empty if it has had none.
std::string ops_table(const DiskView& disk);
std::string disks_table(const std::vector<DiskView>& disks, bool wide);
std::string jobs_table(const std::vector<JobStatus>& jobs, bool wide);
std::string clients_table(const std::vector<ClientView>& clients, bool wide);
std::string bitmaps_table(const std::vector<BitmapView>& bitmaps);
/// One job, a line per fact.
std::string job_text(const JobStatus& job);
std::string disk_text(const DiskView& disk);
/// What of the disk, as it is now, belongs beside one of its jobs, a line per fact.
std::string lines_beside_job(const DiskView& disk, const JobStatus& job);
/// Of disks whose requests wait for their stores, or fail; empty if there are none.
std::string trouble_lines(const std::vector<DiskView>& disks);
/// Disks that are to be served and are not.
std::string unserved_lines(const DaemonView& daemon);
std::string overview_text(const Overview& overview, bool wide);

}  // namespace blockmig

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

std::string disks_table(const std::vector<DiskView>& disks, bool wide);
std::string jobs_table(const std::vector<JobStatus>& jobs, bool wide);
std::string clients_table(const std::vector<ClientView>& clients);
std::string bitmaps_table(const std::vector<BitmapView>& bitmaps);
/// One job, a line per fact.
std::string job_text(const JobStatus& job);
std::string disk_text(const DiskView& disk);
std::string overview_text(const Overview& overview, bool wide);

}  // namespace blockmig

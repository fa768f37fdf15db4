// SPDX-License-Identifier: Apache-2.0
// MetricsSnapshot: every number that a scrape shows, taken at one moment on the loop; and its form
// for Prometheus (text format 0.0.4). Values: the text is made on another thread, not on the loop.
//
// The number of series is bounded by the disks, their bitmaps and fixed lists of labels: no client,
// job or error text is a label. Counters begin at 0 with the daemon; those of a disk begin again
// when it is served again.
#pragma once

#include <string>
#include <vector>

#include "blockmig/base/latency_histogram.h"
#include "blockmig/disk/request_stats.h"
#include "blockmig/migrate/job_status.h"
#include "nbdserver/server_stats.h"
#include "tools/control/messages.h"

namespace blockmig {

struct DiskMetrics {
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint64_t epoch = 0;
  RequestStats requests;
  std::uint64_t clients = 0;
  std::uint64_t in_flight = 0;  ///< taken from clients and not answered on the wire
  std::vector<BitmapView> bitmaps;
  double throttled_seconds = 0;  ///< that writes waited because a migration held them back
};

struct MetricsSnapshot {
  DaemonView daemon;
  std::vector<DiskMetrics> disks;
  NbdServerStats server;
  std::uint64_t negotiating = 0;  ///< connections that do not serve a disk yet
  std::vector<JobStatus> jobs;    ///< of this daemon, oldest first
  LatencyHistogram journal_saves;
};

std::string metrics_text(const MetricsSnapshot& snapshot);

/// What the operating system says about this process; a figure that cannot be had is left out.
/// `stale`: the rest of the page is not of now.
std::string process_metrics_text(bool stale);

}  // namespace blockmig

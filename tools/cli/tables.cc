// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/tables.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "blockmig/base/units.h"
#include "tools/cli/progress.h"

namespace blockmig {
namespace {

using Rows = std::vector<std::vector<std::string>>;

std::string milliseconds(double value) {
  return format_duration(Duration(static_cast<Duration::rep>(value * 1e6)));
}

std::string seconds(double value) { return milliseconds(std::round(value * 1000)); }

/// Characters, not bytes: "µs" is two wide.
std::size_t shown_width(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

/// Nothing was measured: nothing is shown.
std::string latency_text(double value) { return value > 0 ? milliseconds(value) : "-"; }

std::string latency_text(const GuestLatency& latency) {
  if (latency.requests == 0) return "";
  return "p50 " + milliseconds(latency.p50_ms) + ", p99 " + milliseconds(latency.p99_ms) +
         ", longest " + milliseconds(latency.max_ms);
}

std::string pace_text(const JobStatus& job) {
  if (job.pace_depth == 0) return "";
  const std::string rate =
      job.pace_bytes_per_second == 0 ? "any rate" : format_rate(job.pace_bytes_per_second);
  return rate + ", " + std::to_string(job.pace_depth) + " at a time, for the guest's latency";
}

std::string share_text(const JobStatus& job) {
  if (job.guest_share >= 1) return "";
  return std::to_string(std::lround(job.guest_share * 100)) +
         " % of the loop's time while the copier keeps it busy";
}

std::string rate_text(double bytes_per_second) {
  return format_rate(static_cast<std::uint64_t>(bytes_per_second));
}

std::string percent(const JobStatus& job) {
  return std::to_string(static_cast<int>(std::floor(fraction_done(job) * 100))) + " %";
}

std::string error_of(const JobStatus& job) { return job.error ? job.error->message() : ""; }

/// "NAME  value" lines; empty values are left out.
std::string facts_text(const std::vector<std::pair<std::string, std::string>>& facts) {
  std::size_t width = 0;
  for (const auto& [name, value] : facts) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, value] : facts) {
    if (value.empty()) continue;
    text += name + std::string(width - name.size() + 2, ' ') + value + "\n";
  }
  return text;
}

/// Empty where it was not asked for.
std::string way_back_text(const DiskView& disk) {
  if (!disk.return_lost.empty()) return "lost: " + disk.return_lost;
  if (disk.return_to.empty()) return "";
  return format_bytes(disk.return_bytes) + " changed since " + disk.return_to;
}

}  // namespace

std::string render_table(const Rows& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], shown_width(row[i]));
  }
  std::string text;
  for (const auto& row : rows) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i] + std::string(widths[i] - shown_width(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string disks_table(const std::vector<DiskView>& disks, bool wide) {
  Rows rows = {{"DISK", "SIZE", "EPOCH", "CLIENTS", "JOB", "STORE"}};
  if (wide) rows[0].insert(rows[0].end(), {"READ", "WRITTEN", "ERRORS", "P50", "P99", "URI"});
  for (const DiskView& disk : disks) {
    std::vector<std::string> row = {disk.name,
                                    format_bytes(disk.size_bytes),
                                    std::to_string(disk.epoch),
                                    std::to_string(disk.clients),
                                    disk.job.empty() ? "-" : disk.job,
                                    disk.store_uri + (disk.read_only ? " (read-only)" : "")};
    if (wide) {
      row.insert(row.end(), {format_bytes(disk.bytes_read), format_bytes(disk.bytes_written),
                             std::to_string(disk.errors), milliseconds(disk.p50_ms),
                             milliseconds(disk.p99_ms), disk.uris.empty() ? "-" : disk.uris[0]});
    }
    rows.push_back(std::move(row));
  }
  return render_table(rows);
}

std::string activity_table(const std::vector<DiskView>& disks) {
  Rows rows = {{"DISK", "REQUESTS/S", "READ", "WRITE", "P50", "P99", "MAX", "IN FLIGHT"}};
  for (const DiskView& disk : disks) {
    const DiskRate& rate = disk.rate;
    rows.push_back({disk.name, std::to_string(std::llround(rate.requests_per_second)),
                    rate_text(rate.read_bytes_per_second), rate_text(rate.write_bytes_per_second),
                    latency_text(rate.p50_ms), latency_text(rate.p99_ms), latency_text(rate.max_ms),
                    std::to_string(disk.in_flight)});
  }
  return render_table(rows);
}

std::string ops_table(const DiskView& disk) {
  Rows rows = {{"REQUEST", "COUNT", "ERRORS", "BYTES", "IN FLIGHT", "P50", "P99", "MAX"}};
  for (const DiskOpView& op : disk.ops) {
    if (op.requests == 0 && op.in_flight == 0) continue;
    rows.push_back({op.op, std::to_string(op.requests), std::to_string(op.errors),
                    format_bytes(op.bytes), std::to_string(op.in_flight), latency_text(op.p50_ms),
                    latency_text(op.p99_ms), latency_text(op.max_ms)});
  }
  return rows.size() == 1 ? "" : render_table(rows);
}

std::string jobs_table(const std::vector<JobStatus>& jobs, bool wide) {
  Rows rows = {{"JOB", "DISK", "MODE", "STATE", "PHASE", "DONE", "COPIED", "RATE", "TARGET"}};
  if (wide) {
    rows[0].insert(rows[0].end(), {"PASSES", "LEFT", "DIRTY", "STALL", "ELAPSED", "ERROR"});
  }
  for (const JobStatus& job : jobs) {
    std::vector<std::string> row = {job.id,
                                    job.disk,
                                    std::string(to_string(job.active_mode)),
                                    std::string(to_string(job.state)),
                                    std::string(to_string(job.phase)),
                                    percent(job),
                                    format_bytes(job.bytes_copied),
                                    format_rate(job.rate_bytes_per_second),
                                    job.target_uri};
    if (wide) {
      row.insert(row.end(),
                 {std::to_string(job.passes), format_bytes(job.remaining_bytes),
                  format_rate(job.dirty_rate_bytes_per_second), milliseconds(job.stall_ms),
                  seconds(job.elapsed_seconds), error_of(job)});
    }
    rows.push_back(std::move(row));
  }
  return render_table(rows);
}

std::string clients_table(const std::vector<ClientView>& clients, bool wide) {
  Rows rows = {{"CLIENT", "PEER", "IDENTITY", "DISK", "REQUESTS", "READ", "WRITTEN", "IN FLIGHT"}};
  if (wide) {
    rows[0].insert(rows[0].end(), {"STYLE", "TLS", "ERRORS", "CONNECTED", "IDLE", "REQUESTS/S",
                                   "READ RATE", "WRITE RATE"});
  }
  const auto or_dash = [](const std::string& text) { return text.empty() ? "-" : text; };
  for (const ClientView& client : clients) {
    std::vector<std::string> row = {
        std::to_string(client.id),          client.peer,
        or_dash(client.identity),           or_dash(client.disk),
        std::to_string(client.requests),    format_bytes(client.bytes_read),
        format_bytes(client.bytes_written), std::to_string(client.in_flight)};
    if (wide) {
      // Averages since it connected; a second is the least that is a rate.
      const double time = std::max(client.connected_seconds, 1.0);
      row.insert(row.end(),
                 {or_dash(client.style), client.tls ? "yes" : "no", std::to_string(client.errors),
                  seconds(client.connected_seconds), seconds(client.idle_seconds),
                  std::to_string(std::llround(static_cast<double>(client.requests) / time)),
                  rate_text(static_cast<double>(client.bytes_read) / time),
                  rate_text(static_cast<double>(client.bytes_written) / time)});
    }
    rows.push_back(std::move(row));
  }
  return render_table(rows);
}

namespace {

/// QEMU's words.
std::string bitmap_state(const BitmapView& bitmap) {
  if (!bitmap.inconsistent.empty()) return "inconsistent: " + bitmap.inconsistent;
  std::string state = bitmap.persistent ? "persistent" : "transient";
  return bitmap.recording ? state : state + ", disabled";
}

}  // namespace

std::string bitmaps_table(const std::vector<BitmapView>& bitmaps) {
  Rows rows = {{"BITMAP", "GRANULARITY", "DIRTY", "CHUNKS", "STATE"}};
  for (const BitmapView& bitmap : bitmaps) {
    rows.push_back({bitmap.name, format_bytes(bitmap.granularity_bytes),
                    format_bytes(bitmap.dirty_bytes), std::to_string(bitmap.dirty_chunks),
                    bitmap_state(bitmap)});
  }
  return render_table(rows);
}

std::string job_text(const JobStatus& job) {
  return facts_text(
             {{"job", job.id},
              {"disk", job.disk},
              {"state",
               std::string(to_string(job.state)) + ", " + std::string(to_string(job.phase))},
              {"mode", std::string(to_string(job.mode)) +
                           (job.active_mode == job.mode
                                ? ""
                                : ", now " + std::string(to_string(job.active_mode)))},
              {"source", job.source_uri},
              {"target", job.target_uri},
              {"progress", progress_text(job)},
              {"mirrored", format_bytes(job.bytes_mirrored)},
              {"not sent", saved_text(job)},
              {"stall", milliseconds(job.stall_ms) + ", longest request " +
                            milliseconds(job.longest_request_ms)},
              {"mirror", job.longest_mirror_wait_ms == 0
                             ? ""
                             : "longest wait " + milliseconds(job.longest_mirror_wait_ms) + ", " +
                                   std::to_string(job.mirror_deadline_misses) +
                                   " deadlines missed, " + std::to_string(job.mirror_fallbacks) +
                                   " times off"},
              {"postponed", job.switchovers_postponed == 0
                                ? ""
                                : std::to_string(job.switchovers_postponed) +
                                      " switchovers, the gate was closed for " +
                                      milliseconds(job.postponed_ms)},
              {"generations", job.generations_begun == 0
                                  ? ""
                                  : std::to_string(job.generations_complete) + " complete" +
                                        (job.generations_begun == job.generations_complete
                                             ? ", the target is usable by itself"
                                             : ", the target is a mixture until the next one is")},
              {"requests before", latency_text(job.guest_before)},
              {"requests",
               "p50 " + milliseconds(job.guest_p50_ms) + ", p99 " + milliseconds(job.guest_p99_ms)},
              {"requests after", latency_text(job.guest_after)},
              {"copier's pace", pace_text(job)},
              {"guest's share", share_text(job)},
              {"elapsed", seconds(job.elapsed_seconds) +
                              (job.earlier_seconds == 0
                                   ? ""
                                   : ", and " + seconds(job.earlier_seconds) + " before restarts")},
              {"interrupted",
               job.interrupted_in.empty() ? "" : "by a restart, " + job.interrupted_in},
              {"epoch", std::to_string(job.epoch)},
              {"paused because", job.paused_because},
              {"target errors", job.target_errors == 0
                                    ? ""
                                    : std::to_string(job.target_errors) + ", " +
                                          std::to_string(job.target_losses) +
                                          " times something may have been lost and was sent again"},
              {"verdict", job.verdict},
              {"error", error_of(job)},
              {"source digest", job.source_digest},
              {"target digest", target_digest_text(job)}}) +
         decisions_text(job);
}

std::string lines_beside_job(const DiskView& disk, const JobStatus& job) {
  return facts_text({{"way back", is_final(job.state) ? way_back_text(disk) : ""},
                     {"stamp", disk.stamp == "stamped" ? "" : disk.stamp},
                     {"trouble", disk.trouble}});
}

std::string trouble_lines(const std::vector<DiskView>& disks) {
  std::string text;
  for (const DiskView& disk : disks) {
    if (!disk.trouble.empty())
      text += "disk '" + disk.name + "' has trouble: " + disk.trouble + "\n";
  }
  return text;
}

std::string disk_text(const DiskView& disk) {
  std::string uris;
  for (const std::string& uri : disk.uris) uris += (uris.empty() ? "" : ", ") + uri;
  return facts_text(
      {{"disk", disk.name},
       {"description", disk.description},
       {"store", disk.store_uri + (disk.read_only ? " (read-only)" : "")},
       {"before", disk.previous_uri},
       {"way back", way_back_text(disk)},
       {"size", format_bytes(disk.size_bytes) + " (" + std::to_string(disk.size_bytes) + ")"},
       {"epoch", std::to_string(disk.epoch)},
       {"stamp", disk.stamp},
       {"trouble", disk.trouble},
       {"job", disk.job},
       {"clients", std::to_string(disk.clients)},
       {"at", uris},
       {"read", format_bytes(disk.bytes_read)},
       {"written", format_bytes(disk.bytes_written)},
       {"requests", std::to_string(disk.requests) + ", " + std::to_string(disk.errors) +
                        " errors, p50 " + milliseconds(disk.p50_ms) + ", p99 " +
                        milliseconds(disk.p99_ms) + ", longest " + milliseconds(disk.max_ms)},
       {"now", std::to_string(std::llround(disk.rate.requests_per_second)) + " requests/s, read " +
                   rate_text(disk.rate.read_bytes_per_second) + ", write " +
                   rate_text(disk.rate.write_bytes_per_second) + ", p99 " +
                   latency_text(disk.rate.p99_ms) + ", " + std::to_string(disk.in_flight) +
                   " in flight"}});
}

namespace {

/// Of jobs, which come oldest first, those that run and the last of each disk.
std::vector<JobStatus> current_jobs(const std::vector<JobStatus>& jobs) {
  std::map<std::string, const JobStatus*> last;
  for (const JobStatus& job : jobs) last[job.disk] = &job;
  std::vector<JobStatus> current;
  for (const JobStatus& job : jobs) {
    if (!is_final(job.state) || last[job.disk] == &job) current.push_back(job);
  }
  return current;
}

std::string jobs_overview(const std::vector<JobStatus>& jobs, bool wide) {
  const std::vector<JobStatus> current = current_jobs(jobs);
  const std::size_t earlier = jobs.size() - current.size();
  std::string text = jobs_table(current, wide);
  if (earlier != 0) text += std::to_string(earlier) + " earlier: 'blockmig ls jobs'\n";
  return text;
}

}  // namespace

std::string unserved_lines(const DaemonView& daemon) {
  std::string text;
  for (const std::string& disk : daemon.late_disks) {
    text +=
        "disk '" + disk + "' is late: it is served as soon as its store is there (see the log)\n";
  }
  for (const RefusedDisk& refused : daemon.refused_disks) {
    text += "disk '" + refused.disk + "' was served before, and is not now: " + refused.why + "\n";
  }
  return text;
}

std::string overview_text(const Overview& overview, bool wide) {
  const DaemonView& daemon = overview.daemon;
  std::string text = "daemon " + daemon.version + ", process " + std::to_string(daemon.pid) +
                     ", up " + seconds(daemon.uptime_seconds) + ", loop " + daemon.loop +
                     ", state folder " + daemon.state_dir;
  if (daemon.bwlimit_bytes_per_second != 0) {
    text += ", copies at most " + format_rate(daemon.bwlimit_bytes_per_second);
  }
  text += "\n";
  if (!daemon.journal_error.empty()) {
    text += "the journal has failed, nothing is recorded until the daemon is restarted: " +
            daemon.journal_error + "\n";
  }
  text += unserved_lines(daemon);
  text += trouble_lines(overview.disks);
  text += "\n" + disks_table(overview.disks, wide);
  if (!overview.disks.empty()) text += "\n" + activity_table(overview.disks);
  if (!overview.clients.empty()) text += "\n" + clients_table(overview.clients, wide);
  if (!overview.jobs.empty()) text += "\n" + jobs_overview(overview.jobs, wide);
  return text;
}

}  // namespace blockmig

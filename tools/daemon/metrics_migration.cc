// SPDX-License-Identifier: Apache-2.0
// Metrics of migrations. The gauges speak of a disk's latest job, the counters of all its jobs in
// this daemon, so that they never go back.
#include <array>
#include <map>

#include "tools/daemon/metric_families.h"
#include "tools/daemon/metrics.h"

namespace blockmig {
namespace {

using Family = MetricFamilies::Family;

constexpr std::array kPhases = {Phase::kPreparing, Phase::kCopying,   Phase::kMirroring,
                                Phase::kSwitching, Phase::kHydrating, Phase::kEnded};
constexpr std::array kStates = {JobState::kRunning, JobState::kPaused, JobState::kDone,
                                JobState::kFailed, JobState::kAborted};

/// What the jobs of one disk have done together.
struct DiskJobs {
  const JobStatus* latest = nullptr;
  std::uint64_t copied_bytes = 0;
  std::uint64_t first_pass_bytes = 0;
  std::uint64_t mirrored_bytes = 0;
  std::uint64_t zero_bytes = 0;
  std::uint64_t deadline_misses = 0;
  std::uint64_t target_errors = 0;
  std::uint64_t target_losses = 0;
  std::uint64_t mismatched_chunks = 0;
  std::uint64_t pulls_demanded = 0;
  std::uint64_t pulls_prefetched = 0;
  std::uint64_t pulls_pushed = 0;
  std::uint64_t hydrated_bytes = 0;
  std::uint64_t spared_bytes = 0;
  std::array<std::uint64_t, kStates.size()> ended{};
  LatencyHistogram stalls;
};

std::map<std::string, DiskJobs> jobs_by_disk(const std::vector<JobStatus>& jobs) {
  std::map<std::string, DiskJobs> disks;
  for (const JobStatus& job : jobs) {
    DiskJobs& disk = disks[job.disk];
    disk.latest = &job;
    disk.copied_bytes += job.bytes_copied;
    disk.first_pass_bytes += job.bytes_copied_first_pass;
    disk.mirrored_bytes += job.bytes_mirrored;
    disk.zero_bytes += job.bytes_zero;
    disk.deadline_misses += job.mirror_deadline_misses;
    disk.target_errors += job.target_errors;
    disk.target_losses += job.target_losses;
    disk.mismatched_chunks += job.mismatched_chunks;
    disk.pulls_demanded += job.pulls_demanded;
    disk.pulls_prefetched += job.pulls_prefetched;
    disk.pulls_pushed += job.pulls_pushed;
    disk.hydrated_bytes += job.bytes_hydrated;
    disk.spared_bytes += job.bytes_spared;
    if (is_final(job.state)) ++disk.ended[static_cast<std::size_t>(job.state)];
    if (job.state == JobState::kDone) {
      disk.stalls.record(static_cast<std::uint64_t>(job.stall_ms * 1e6));
    }
  }
  return disks;
}

void add_states(const std::map<std::string, DiskJobs>& disks, MetricFamilies& families) {
  Family phases = families.gauge("blockmig_migration_phase",
                                 "1 for the phase that a disk's latest migration is in.");
  Family states = families.gauge("blockmig_migration_state",
                                 "1 for the state that a disk's latest migration is in.");
  for (const auto& [name, disk] : disks) {
    const std::string mode(to_string(disk.latest->active_mode));
    for (const Phase phase : kPhases) {
      phases.add(disk.latest->phase == phase ? 1.0 : 0.0,
                 {{"disk", name}, {"mode", mode}, {"phase", std::string(to_string(phase))}});
    }
    for (const JobState state : kStates) {
      states.add(disk.latest->state == state ? 1.0 : 0.0,
                 {{"disk", name}, {"mode", mode}, {"state", std::string(to_string(state))}});
    }
  }
}

void add_totals(const std::map<std::string, DiskJobs>& disks, MetricFamilies& families) {
  Family jobs = families.counter("blockmig_migration_jobs_total", "Ended migrations, by result.");
  Family copied = families.counter(
      "blockmig_migration_copied_bytes_total",
      "Bytes that the copier has brought to the target, in the first pass and in later ones.");
  Family mirrored = families.counter("blockmig_migration_mirrored_bytes_total",
                                     "Bytes that clients' writes have brought to the target.");
  Family zeros = families.counter("blockmig_migration_zero_bytes_total",
                                  "Copied bytes that were zeros and did not travel.");
  Family wire =
      families.counter("blockmig_migration_wire_bytes_total",
                       "Bytes sent to the target as data: copied ones and mirrored ones.");
  Family misses = families.counter(
      "blockmig_migration_mirror_deadline_misses_total",
      "Mirrored writes that were answered before the target had them, because it was slow.");
  Family errors = families.counter("blockmig_migration_target_errors_total",
                                   "Requests that a migration's target failed.");
  Family losses = families.counter(
      "blockmig_migration_target_losses_total",
      "Times that a target may have lost what it had not made durable, which was sent again.");
  Family mismatched = families.counter(
      "blockmig_verify_mismatched_chunks_total",
      "Chunks that migrations copied, mirrored or fetched and verification found to differ, of a "
      "request the first.");
  for (const auto& [name, disk] : disks) {
    errors.add(disk.target_errors, {{"disk", name}});
    losses.add(disk.target_losses, {{"disk", name}});
    mismatched.add(disk.mismatched_chunks, {{"disk", name}});
    for (const JobState state : kStates) {
      if (!is_final(state)) continue;
      jobs.add(disk.ended[static_cast<std::size_t>(state)],
               {{"disk", name}, {"state", std::string(to_string(state))}});
    }
    copied.add(disk.first_pass_bytes, {{"disk", name}, {"pass", "first"}});
    copied.add(disk.copied_bytes - disk.first_pass_bytes, {{"disk", name}, {"pass", "later"}});
    mirrored.add(disk.mirrored_bytes, {{"disk", name}});
    zeros.add(disk.zero_bytes, {{"disk", name}});
    wire.add(disk.copied_bytes - disk.zero_bytes + disk.mirrored_bytes, {{"disk", name}});
    misses.add(disk.deadline_misses, {{"disk", name}});
  }
}

/// Seconds until the rest is copied at the present rates; negative where that is not in sight.
double eta_seconds(const JobStatus& job) {
  if (is_final(job.state)) return 0;
  if (job.rate_bytes_per_second <= job.dirty_rate_bytes_per_second) return -1;
  return static_cast<double>(job.remaining_bytes) /
         static_cast<double>(job.rate_bytes_per_second - job.dirty_rate_bytes_per_second);
}

void add_progress(const std::map<std::string, DiskJobs>& disks, MetricFamilies& families) {
  Family remaining = families.gauge("blockmig_migration_remaining_bytes",
                                    "Bytes that the latest migration has still to copy.");
  Family rate = families.gauge("blockmig_migration_rate_bytes_per_second",
                               "How fast the copier works, over the last second.");
  Family dirty_rate =
      families.gauge("blockmig_disk_dirty_rate_bytes_per_second",
                     "How fast clients change chunks, over the last second of a migration.");
  Family eta = families.gauge("blockmig_migration_eta_seconds",
                              "Time until everything is copied; absent while it is not in sight.");
  for (const auto& [name, disk] : disks) {
    const JobStatus& job = *disk.latest;
    remaining.add(is_final(job.state) ? 0 : job.remaining_bytes, {{"disk", name}});
    rate.add(job.rate_bytes_per_second, {{"disk", name}});
    dirty_rate.add(job.dirty_rate_bytes_per_second, {{"disk", name}});
    const double seconds = eta_seconds(job);
    if (seconds >= 0) eta.add(seconds, {{"disk", name}});
  }
  Family stalls = families.histogram("blockmig_migration_switchover_stall_seconds",
                                     "How long a switchover that succeeded held requests.");
  for (const auto& [name, disk] : disks) stalls.add(disk.stalls, {{"disk", name}});
}

void add_hydration(const std::map<std::string, DiskJobs>& disks, MetricFamilies& families) {
  Family pulls = families.counter("blockmig_postcopy_remote_reads_total",
                                  "Pulls of absent chunks from the old store, by what asked.");
  Family bytes = families.counter("blockmig_hydration_pulled_bytes_total",
                                  "Bytes that were pulled from the old store.");
  Family spared = families.counter("blockmig_hydration_spared_bytes_total",
                                   "Absent bytes that clients overwrote before they were pulled.");
  Family absent = families.gauge("blockmig_hydration_absent_bytes",
                                 "Bytes of a disk that only the old store has.");
  Family demand = families.gauge("blockmig_hydration_demand_seconds",
                                 "How long requests of the latest migration waited for a pull.");
  for (const auto& [name, disk] : disks) {
    const JobStatus& job = *disk.latest;
    pulls.add(disk.pulls_demanded, {{"disk", name}, {"kind", "demand"}});
    pulls.add(disk.pulls_prefetched, {{"disk", name}, {"kind", "prefetch"}});
    pulls.add(disk.pulls_pushed, {{"disk", name}, {"kind", "push"}});
    bytes.add(disk.hydrated_bytes, {{"disk", name}});
    spared.add(disk.spared_bytes, {{"disk", name}});
    absent.add(job.phase == Phase::kHydrating ? job.remaining_bytes : 0, {{"disk", name}});
    demand.add(job.demand_p50_ms / 1e3, {{"disk", name}, {"share", "0.5"}});
    demand.add(job.demand_p99_ms / 1e3, {{"disk", name}, {"share", "0.99"}});
  }
}

}  // namespace

void add_migration_metrics(const MetricsSnapshot& snapshot, MetricFamilies& families) {
  const std::map<std::string, DiskJobs> disks = jobs_by_disk(snapshot.jobs);
  add_states(disks, families);
  add_totals(disks, families);
  add_progress(disks, families);
  add_hydration(disks, families);
}

}  // namespace blockmig

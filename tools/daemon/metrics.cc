// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/metrics.h"

#include <prometheus/text_serializer.h>

#include <array>
#include <sstream>
#include <utility>

#include "tools/daemon/metric_families.h"

namespace blockmig {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;

/// Upper bounds of the buckets, from 1 µs to 10 s. A request is counted below a bound to within the
/// 6.25 % that LatencyHistogram resolves.
constexpr std::array<std::uint64_t, 22> kBounds_ns = {
    1'000,         2'500,         5'000,         10'000,        25'000,      50'000,
    100'000,       250'000,       500'000,       1'000'000,     2'500'000,   5'000'000,
    10'000'000,    25'000'000,    50'000'000,    100'000'000,   250'000'000, 500'000'000,
    1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000};

}  // namespace

void MetricFamilies::Family::add(double value, MetricLabels labels) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  if (family_.type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  family_.metric.push_back(std::move(metric));
}

void MetricFamilies::Family::add(const LatencyHistogram& histogram, MetricLabels labels) {
  prometheus::ClientMetric metric;
  metric.label = std::move(labels);
  metric.histogram.sample_count = histogram.count();
  metric.histogram.sample_sum = static_cast<double>(histogram.sum_ns()) / kNanosecondsPerSecond;
  for (const std::uint64_t bound : kBounds_ns) {
    metric.histogram.bucket.push_back(
        {histogram.count_up_to(bound), static_cast<double>(bound) / kNanosecondsPerSecond});
  }
  family_.metric.push_back(std::move(metric));
}

MetricFamilies::Family MetricFamilies::begin(const char* name, const char* help,
                                             prometheus::MetricType type) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  families_.push_back(std::move(family));
  return Family(families_.back());
}

std::vector<prometheus::MetricFamily> MetricFamilies::Collect() const {
  std::vector<prometheus::MetricFamily> filled;
  for (const prometheus::MetricFamily& family : families_) {
    if (!family.metric.empty()) filled.push_back(family);
  }
  return filled;
}

std::string MetricFamilies::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, Collect());
  return out.str();
}

std::string metrics_text(const MetricsSnapshot& snapshot) {
  MetricFamilies families;
  families.gauge("blockmig_build_info", "The program that runs; the value is always 1.")
      .add(1.0, {{"version", snapshot.daemon.version}, {"loop", snapshot.daemon.loop}});
  families.gauge("blockmig_uptime_seconds", "Time since the daemon was started.")
      .add(snapshot.daemon.uptime_seconds);
  families
      .gauge("blockmig_late_disks",
             "Disks that are to be served and are not, because their stores are not there yet.")
      .add(static_cast<double>(snapshot.daemon.late_disks.size()));
  families
      .gauge("blockmig_refused_disks",
             "Disks that were served before and must not be now; `blockmig status` says why.")
      .add(static_cast<double>(snapshot.daemon.refused_disks.size()));
  add_nbd_metrics(snapshot, families);
  add_disk_metrics(snapshot, families);
  add_migration_metrics(snapshot, families);
  families
      .gauge("blockmig_journal_healthy",
             "0 once a write of the journal has failed: nothing is recorded until a restart.")
      .add(snapshot.daemon.journal_error.empty() ? 1.0 : 0.0);
  families
      .histogram("blockmig_journal_sync_duration_seconds",
                 "How long it took to bring a record of the journal onto stable storage.")
      .add(snapshot.journal_saves);
  return families.text();
}

}  // namespace blockmig

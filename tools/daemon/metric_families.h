// SPDX-License-Identifier: Apache-2.0
// MetricFamilies: collects families of metrics and writes them down. Only for the metrics*.cc of
// this folder: it shows the Prometheus library. Thread rule: one thread.
#pragma once

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <cstdint>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/base/latency_histogram.h"

namespace blockmig {

struct MetricsSnapshot;

using MetricLabels = std::vector<prometheus::ClientMetric::Label>;

class MetricFamilies final : public prometheus::Collectable {
 public:
  /// One family, being filled. What is added stays in order.
  class Family final {
   public:
    explicit Family(prometheus::MetricFamily& family) : family_(family) {}
    void add(double value, MetricLabels labels = {});
    void add(std::uint64_t value, MetricLabels labels = {}) {
      add(static_cast<double>(value), std::move(labels));
    }
    /// In seconds, with the bounds below.
    void add(const LatencyHistogram& histogram, MetricLabels labels = {});

   private:
    prometheus::MetricFamily& family_;
  };

  Family counter(const char* name, const char* help) {
    return begin(name, help, prometheus::MetricType::Counter);
  }
  Family gauge(const char* name, const char* help) {
    return begin(name, help, prometheus::MetricType::Gauge);
  }
  Family histogram(const char* name, const char* help) {
    return begin(name, help, prometheus::MetricType::Histogram);
  }

  /// Without families that nothing was added to.
  std::vector<prometheus::MetricFamily> Collect() const override;
  std::string text() const;

 private:
  Family begin(const char* name, const char* help, prometheus::MetricType type);

  std::deque<prometheus::MetricFamily> families_;  ///< never moved: Family refers into it
};

// What fills them, by subject (metrics_nbd.cc, metrics_migration.cc).
void add_nbd_metrics(const MetricsSnapshot& snapshot, MetricFamilies& families);
void add_disk_metrics(const MetricsSnapshot& snapshot, MetricFamilies& families);
void add_migration_metrics(const MetricsSnapshot& snapshot, MetricFamilies& families);

}  // namespace blockmig

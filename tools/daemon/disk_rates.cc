// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/disk_rates.h"

namespace blockmig {
namespace {

double per_second(std::uint64_t now, std::uint64_t before, double seconds) {
  return seconds > 0 ? static_cast<double>(now - before) / seconds : 0;
}

double milliseconds(std::uint64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

}  // namespace

void DiskRates::sample(TimePoint now) {
  if (now - last_ < kInterval) return;
  const double seconds = std::chrono::duration<double>(now - last_).count();
  last_ = now;
  std::map<std::string, Seen> present;
  for (const auto& disk : disks_.disks()) {
    auto node = seen_.extract(disk->name());
    if (node.empty() || node.mapped().disk.lock() != disk) {
      Seen& fresh = present[disk->name()];
      measure(fresh, disk, seconds);
      fresh.rate = {};  // what came before is not of this interval
    } else {
      measure(node.mapped(), disk, seconds);
      present.insert(std::move(node));
    }
  }
  seen_ = std::move(present);
}

void DiskRates::measure(Seen& seen, const std::shared_ptr<ServedDisk>& disk, double seconds) {
  const RequestStats stats = disk->disk().stats();
  const LatencyHistogram latency = stats.latency();
  const LatencyHistogram interval = latency.since(seen.latency);
  DiskRate rate;
  rate.requests_per_second = per_second(latency.count(), seen.requests, seconds);
  rate.read_bytes_per_second = per_second(stats.bytes(DiskOp::kRead), seen.bytes_read, seconds);
  rate.write_bytes_per_second = per_second(stats.bytes_written(), seen.bytes_written, seconds);
  rate.p50_ms = milliseconds(interval.quantile_ns(0.5));
  rate.p99_ms = milliseconds(interval.quantile_ns(0.99));
  rate.max_ms = milliseconds(interval.quantile_ns(1.0));
  seen.disk = disk;
  seen.requests = latency.count();
  seen.bytes_read = stats.bytes(DiskOp::kRead);
  seen.bytes_written = stats.bytes_written();
  seen.latency = latency;
  seen.rate = rate;
}

DiskRate DiskRates::of(const std::string& disk) const {
  const auto found = seen_.find(disk);
  return found == seen_.end() ? DiskRate{} : found->second.rate;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// DiskRates: what each disk does now: requests and bytes per second and latencies over the last
// interval of about a second. The daemon measures, so that one look at the status is enough.
// Lifecycle: sample() a few times a second. Thread rule: the loop.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "blockmig/io/event_loop.h"
#include "tools/control/messages.h"
#include "tools/daemon/disk_set.h"

namespace blockmig {

class DiskRates final {
 public:
  static constexpr Duration kInterval = std::chrono::seconds(1);

  explicit DiskRates(const DiskSet& disks) : disks_(disks) {}

  /// Ends the interval if it is old enough.
  void sample(TimePoint now);
  /// All zero for a disk that has not been seen for a whole interval.
  DiskRate of(const std::string& disk) const;

 private:
  struct Seen {
    std::weak_ptr<ServedDisk> disk;  ///< another disk of the same name begins anew
    std::uint64_t requests = 0;
    std::uint64_t bytes_read = 0;
    std::uint64_t bytes_written = 0;
    LatencyHistogram latency;
    DiskRate rate;
  };

  static void measure(Seen& seen, const std::shared_ptr<ServedDisk>& disk, double seconds);

  const DiskSet& disks_;
  std::map<std::string, Seen> seen_;
  TimePoint last_{};
};

}  // namespace blockmig

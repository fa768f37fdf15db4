// SPDX-License-Identifier: Apache-2.0
// GuestPace: what the guest's requests take before and during a move, and, with
// --max-guest-latency, the pace at which the copier leaves it alone.
//
// Lifecycle: made when the job begins; sample() now and then; ended() once. What they take after
// the move is what Disk::latency_mark() leaves: whoever shows a report looks a while later. Thread
// rule: the disk's loop.
#pragma once

#include <cstdint>
#include <optional>

#include "blockmig/base/latency_histogram.h"
#include "blockmig/disk/disk.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/job_status.h"
#include "blockmig/migrate/latency_governor.h"

namespace blockmig {

GuestLatency guest_latency(const LatencyHistogram& latency);

class GuestPace final {
 public:
  GuestPace(Disk& disk, const JobOptions& options);

  /// `copied_rate`: what the copier does lately, in bytes per second. True: the pace has changed.
  bool sample(std::uint64_t copied_rate);
  void ended() { disk_.latency_mark() = disk_.stats().latency(); }

  /// Of the copier, in bytes per second, where an operator allows `bwlimit`; 0: unlimited.
  std::uint64_t rate(std::uint64_t bwlimit) const;
  /// Copies in flight at most.
  std::uint32_t depth() const { return governor_ ? governor_->pace().depth : max_depth_; }
  /// Once: the slowest pace did not help, the copier is not what makes the guest slow.
  bool take_helpless();

  void capture(JobStatus& status) const;

 private:
  Disk& disk_;
  std::uint32_t max_depth_;
  LatencyHistogram at_begin_;
  LatencyHistogram at_window_;
  GuestLatency before_;
  LatencyHistogram during_;
  Duration longest_{};
  unsigned samples_in_window_ = 0;
  std::optional<LatencyGovernor> governor_;
  bool helpless_shown_ = false;
};

}  // namespace blockmig

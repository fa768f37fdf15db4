// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/guest_pace.h"

#include <algorithm>

namespace blockmig {
namespace {

/// A window ends with enough requests for a p99, or after so many samples.
constexpr unsigned kMaxSamplesInWindow = 10;

double quantile_ms(const LatencyHistogram& latency, double fraction) {
  return static_cast<double>(latency.quantile_ns(fraction)) / 1e6;
}

}  // namespace

GuestLatency guest_latency(const LatencyHistogram& latency) {
  GuestLatency shown;
  shown.requests = latency.count();
  shown.p50_ms = quantile_ms(latency, 0.50);
  shown.p99_ms = quantile_ms(latency, 0.99);
  shown.max_ms = quantile_ms(latency, 1.0);
  return shown;
}

GuestPace::GuestPace(Disk& disk, const JobOptions& options)
    : disk_(disk), max_depth_(options.copy_depth), at_begin_(disk.stats().latency()) {
  disk.take_longest_latency();
  at_window_ = at_begin_;
  before_ = guest_latency(at_begin_.since(disk.latency_mark()));
  if (options.max_guest_latency > Duration::zero()) {
    governor_.emplace(options.max_guest_latency, options.copy_depth);
  }
}

bool GuestPace::sample(std::uint64_t copied_rate) {
  longest_ = std::max(longest_, disk_.take_longest_latency());
  const LatencyHistogram now = disk_.stats().latency();
  during_ = now.since(at_begin_);
  if (!governor_) return false;
  const LatencyHistogram window = now.since(at_window_);
  const std::uint64_t requests = window.count();
  // Without a guest there is nothing to wait for.
  const bool over = requests == 0 || requests >= LatencyGovernor::kEnoughRequests ||
                    ++samples_in_window_ >= kMaxSamplesInWindow;
  if (!over) return false;
  samples_in_window_ = 0;
  at_window_ = now;
  const LatencyGovernor::Pace before = governor_->pace();
  const auto p99 = static_cast<Duration::rep>(window.quantile_ns(0.99));
  governor_->observe({requests, Duration(p99), copied_rate});
  return governor_->pace() != before;
}

std::uint64_t GuestPace::rate(std::uint64_t bwlimit) const {
  const std::uint64_t pace = governor_ ? governor_->pace().bytes_per_second : 0;
  if (pace == 0 || bwlimit == 0) return std::max(pace, bwlimit);
  return std::min(pace, bwlimit);
}

bool GuestPace::take_helpless() {
  if (helpless_shown_ || !governor_ || !governor_->helpless()) return false;
  helpless_shown_ = true;
  return true;
}

void GuestPace::capture(JobStatus& status) const {
  status.guest_before = before_;
  status.longest_request_ms = std::chrono::duration<double, std::milli>(longest_).count();
  status.guest_p50_ms = quantile_ms(during_, 0.50);
  status.guest_p99_ms = quantile_ms(during_, 0.99);
  if (!governor_) return;
  status.pace_bytes_per_second = governor_->pace().bytes_per_second;
  status.pace_depth = governor_->pace().depth;
}

}  // namespace blockmig

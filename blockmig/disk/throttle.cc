// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/throttle.h"

#include <algorithm>

namespace blockmig {

void TokenBucket::set_rate(std::uint64_t bytes_per_second) {
  if (rate_ == bytes_per_second) return;
  const TimePoint now = loop_.now();
  if (bytes_per_second == 0) {
    free_at_ = now;
  } else if (rate_ != 0 && free_at_ > now) {
    // The debt in bytes stays; how long it takes to pay changes.
    const double debt_seconds = std::chrono::duration<double>(free_at_ - now).count();
    const double scaled =
        debt_seconds * static_cast<double>(rate_.load()) / static_cast<double>(bytes_per_second);
    free_at_ = now + std::chrono::duration_cast<Duration>(std::chrono::duration<double>(scaled));
  }
  rate_ = bytes_per_second;
  rate_changed_.pulse();
}

void TokenBucket::let_go() {
  held_ = false;
  rate_changed_.pulse();
}

Task<void> TokenBucket::take(std::uint64_t bytes) {
  const TimePoint entered = loop_.now();
  while (held_ || (rate_ != 0 && free_at_ > loop_.now())) {
    const TimePoint until = held_ ? TimePoint::max() : free_at_;
    co_await rate_changed_.wait_until(until);
  }
  waited_ += loop_.now() - entered;
  charge(bytes);
}

void TokenBucket::charge(std::uint64_t bytes) {
  if (rate_ == 0) return;
  const double seconds = static_cast<double>(bytes) / static_cast<double>(rate_.load());
  free_at_ = std::max(free_at_, loop_.now()) +
             std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace blockmig

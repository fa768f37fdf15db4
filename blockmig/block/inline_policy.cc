// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/inline_policy.h"

#include <algorithm>

namespace blockmig {

bool InlinePolicy::is_slow(Duration took, std::uint64_t bytes) {
  const auto mebibytes =
      static_cast<Duration::rep>(std::max<std::uint64_t>(1, div_up(bytes, kMiB)));
  return took > kSlowPerMiB * mebibytes;
}

void InlinePolicy::observe_slow(TimePoint start, TimePoint end, Switches during) {
  forgive();
  // Neither: it worked all the time, in the kernel, which holds the loop up as well.
  const bool held_up = during.waited > 0 || during.preempted == 0;
  if (!held_up) return;
  const Duration before(quiet_.load(std::memory_order_relaxed));
  const bool forgotten = before == Duration{} || start - quiet_until() > kForgetAfter;
  const Duration quiet = forgotten ? kFirstQuiet : std::min(before * 2, kLongestQuiet);
  quiet_.store(quiet.count(), std::memory_order_relaxed);
  quiet_until_.store((end + quiet).time_since_epoch().count(), std::memory_order_relaxed);
}

}  // namespace blockmig

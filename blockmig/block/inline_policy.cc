// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/inline_policy.h"

#include <algorithm>

namespace blockmig {

void InlinePolicy::observe(TimePoint start, TimePoint end, std::uint64_t bytes) {
  const auto mebibytes =
      static_cast<Duration::rep>(std::max<std::uint64_t>(1, div_up(bytes, kMiB)));
  if (end - start <= kSlowPerMiB * mebibytes) return;
  const bool forgotten = quiet_ == Duration{} || start - quiet_until_ > kForgetAfter;
  quiet_ = forgotten ? kFirstQuiet : std::min(quiet_ * 2, kLongestQuiet);
  quiet_until_ = end + quiet_;
}

}  // namespace blockmig

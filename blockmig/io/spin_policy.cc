// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/spin_policy.h"

#include <algorithm>

namespace blockmig {

Duration SpinPolicy::before_sleep() {
  if (skips_left_ > 0) {
    --skips_left_;
    return Duration::zero();
  }
  return spin_;
}

void SpinPolicy::spun(bool paid) {
  if (paid) {
    fruitless_ = skips_ = skips_left_ = 0;
    return;
  }
  if (++fruitless_ < kPatience) return;
  skips_ = skips_ == 0 ? 2 : std::min(skips_ * 2, kMaxSkips);
  skips_left_ = skips_;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/cancel.h"

namespace blockmig {

Task<void> sleep_for(EventLoop& loop, Duration duration) {
  Event never(loop);
  const TimePoint deadline = loop.now() + duration;
  co_await never.wait_until(deadline);
}

}  // namespace blockmig

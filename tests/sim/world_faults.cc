// SPDX-License-Identifier: Apache-2.0
// What happens to a target while a job runs.
#include "world.h"

namespace blockmig::sim {

/// The target's own troubles: a broken connection that loses what was not flushed, flushes that
/// fail, no room. Each ends, and the job is to go on by itself. Not while the decision may be under
/// way: a store that fails then is the guest's.
Task<void> World::trouble(std::string job, std::shared_ptr<FaultDevice> target) {
  const std::uint64_t count = random_.between(1, 3);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 100'000));
    co_await sleep_for(loop_, wait);
    if (crashed_) co_return;
    const auto status = board_->status(job);
    if (!status.ok() || is_final(status->state) || status->switched) co_return;
    if (disk_->gate().state() != Gate::State::kOpen) continue;
    const Duration lasts = std::chrono::microseconds(random_.between(1, 300'000));
    switch (random_.below(3)) {
      case 0:
        note("disconnected");
        target->disconnect();
        co_await sleep_for(loop_, lasts);
        target->reconnect();
        break;
      case 1:
        note("flushes fail");
        target->plan().flush_error_ppm = random_.chance(1, 2) ? 1'000'000 : 300'000;
        co_await sleep_for(loop_, lasts);
        target->plan().flush_error_ppm = 0;
        break;
      default:
        note("no room");
        target->plan().space_bytes = random_.below(size_bytes_);
        co_await sleep_for(loop_, lasts);
        target->plan().space_bytes = UINT64_MAX;
    }
  }
}

}  // namespace blockmig::sim

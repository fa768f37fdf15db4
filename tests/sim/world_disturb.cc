// SPDX-License-Identifier: Apache-2.0
// What happens to a job from outside, in a world.
#include "world.h"

namespace blockmig::sim {

/// Things that happen to a job: pauses, a frozen target, a new rate, an abort.
Task<void> World::disturb(std::string job, std::shared_ptr<FaultDevice> target) {
  const std::uint64_t count = random_.below(4);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 60000));
    co_await sleep_for(loop_, wait);
    if (crashed_) co_return;
    const auto status = board_->status(job);
    if (!status.ok() || is_final(status->state)) co_return;
    switch (random_.below(4)) {
      case 0: {
        note("stall");
        target->stall();
        const Duration frozen = std::chrono::milliseconds(random_.between(1, 400));
        co_await sleep_for(loop_, frozen);
        target->unstall();
        break;
      }
      case 1: {
        note("pause");
        const Status paused = board_->pause(job);
        const Duration held = std::chrono::milliseconds(random_.between(1, 50));
        const std::uint64_t epoch = paused.ok() && disk_ ? disk_->epoch() : 0;
        co_await sleep_for(loop_, held);
        const auto still = board_->status(job);
        const bool waited = !crashed_ && still.ok() && still->state == JobState::kPaused;
        if (paused.ok() && waited && disk_->epoch() != epoch) complain("it has switched, paused");
        const Status resumed = board_->resume(job);
        if (paused.ok() != resumed.ok()) note("ended while paused");
        break;
      }
      case 2: {
        const std::uint64_t rate = random_.between(100, 100'000) * kKiB;
        const JobChange change{rate, rate % 2 == 0 ? Priority::kLow : Priority::kHigh, {}};
        const Status limited = board_->change(job, change);
        // The daemon's own limit comes and goes.
        board_->bandwidth().set_rate(rate % 3 == 0 ? rate / 2 : 0);
        if (!limited.ok()) note("ended before the limit changed");
        break;
      }
      default:
        if (random_.chance(1, 3)) {
          note("abort");
          const Status aborted = board_->abort(job);
          if (!aborted.ok()) note("too late to abort");
        }
    }
  }
}

}  // namespace blockmig::sim

// SPDX-License-Identifier: Apache-2.0
// A world of restarts: each move is killed, most of them more than once, and goes on from what was
// recorded. The guest is in no hurry, so that what a restart forgot is not mended by the next write
// to the same place; it seldom flushes, so that a power loss takes something; and nothing compares
// the stores before the decision does.
#include "world.h"

namespace blockmig::sim {

void World::plan_restarts(JobOptions& options) {
  options.on_restart = OnRestart::kResume;
  options.on_target_error = OnTargetError::kRetry;
  if (!options_.verify) options.verify = Verify::kNone;
  options.checkpoint_interval = std::chrono::microseconds(random_.between(500, 10'000));
}

void World::calm_guest() {
  guest_workers_ = random_.between(1, 3);
  guest_plan_.max_request_sectors = 16;
  guest_plan_.max_think = std::chrono::milliseconds(random_.between(1, 10));
  guest_plan_.flush_percent = static_cast<std::uint32_t>(random_.below(3));
}

}  // namespace blockmig::sim

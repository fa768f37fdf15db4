// SPDX-License-Identifier: Apache-2.0
// A world of a sweep: a short disk, a short move, and the daemon dies after one event that the
// command line names. Seeds that are even have a death of their own besides, so that what a restart
// awaits is swept as well. No store fails.
#include "world.h"

namespace blockmig::sim {

bool World::can_die() const { return begun_ && !ended_ && !crashed_; }

bool World::dies_by_lot(std::uint64_t move) {
  if (options_.sweep) return move == 0 && options_.seed % 2 == 0;
  return options_.restarts || random_.chance(1, 2);
}

void World::plan_sweep(JobOptions& options) {
  options.point_in_time =
      options.mode == Mode::kSnapshot && options_.seed % 4 >= 2 && !options_.returns;
  if (options.point_in_time && options.verify == Verify::kFull) options.verify = Verify::kDigest;
  options.on_restart = options_.seed % 8 == 7 ? OnRestart::kAbort : OnRestart::kResume;
  // So many records as the short move can have.
  options.checkpoint_interval = std::chrono::microseconds(random_.between(500, 3000));
  options.max_downtime = std::chrono::milliseconds(200);
  options.target_timeout = std::chrono::seconds(5);
}

void World::hurry_guest() {
  guest_workers_ = random_.between(1, 2);
  guest_plan_.max_request_sectors = 16;
  guest_plan_.max_think = std::chrono::milliseconds(random_.between(1, 4));
}

}  // namespace blockmig::sim

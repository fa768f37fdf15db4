// SPDX-License-Identifier: Apache-2.0
// A sweep: one run in which the daemon is not killed counts the events of the simulated loop; then
// that seed runs again for each of them, and the daemon dies after it, by a kill and by a power
// loss. Everything else is equal up to there. So every await of the daemon has been the one at
// which it died.
#pragma once

#include <cstdint>
#include <functional>

#include "sim_run.h"

namespace blockmig::sim {

struct SweepPlan {
  std::uint64_t first_seed = 1;
  std::uint64_t seeds = 1;
  std::uint64_t stride =
      1;  ///< of the events only every so many-th, beginning with another in each seed
};

struct SweepResult {
  RunOptions failed;      ///< the run with the violation
  std::string violation;  ///< empty: nothing illegal was seen
  std::uint64_t events = 0;
  std::uint64_t points = 0;  ///< events after which there was a daemon to die
  std::uint64_t runs = 0;
  std::uint64_t jobs_done = 0;
  std::uint64_t resumed = 0;
  std::uint64_t recovered = 0;
};

using RunWorld = std::function<RunResult(const RunOptions&)>;

SweepResult sweep(const SweepPlan& plan, RunOptions options, const RunWorld& run);

}  // namespace blockmig::sim

// SPDX-License-Identifier: Apache-2.0
#include "sweep.h"

namespace blockmig::sim {
namespace {

/// False: the run has broken a promise.
bool run_one(const RunOptions& options, const RunWorld& run, SweepResult& result) {
  const RunResult one = run(options);
  ++result.runs;
  result.jobs_done += one.jobs_done;
  result.resumed += one.resumed;
  result.recovered += one.recovered;
  result.violation = one.violation;
  if (result.violation.empty() && options.crash_at != 0 && !one.died) {
    result.violation = "its events are not those that were counted: something is not simulated";
  }
  result.failed = options;
  return result.violation.empty();
}

bool sweep_seed(const SweepPlan& plan, RunOptions options, const RunWorld& run,
                SweepResult& result) {
  options.crash_at = 0;
  const RunResult whole = run(options);
  result.failed = options;
  result.violation = whole.violation;
  if (whole.crash_points.empty()) result.violation = "no daemon is alive after any event";
  if (!result.violation.empty()) return false;
  result.events += whole.events;
  result.points += whole.crash_points.size();
  for (std::size_t at = options.seed % plan.stride; at < whole.crash_points.size();
       at += plan.stride) {
    options.crash_at = whole.crash_points[at];
    for (const bool power_loss : {false, true}) {
      options.power_loss = power_loss;
      if (!run_one(options, run, result)) return false;
    }
  }
  return true;
}

}  // namespace

SweepResult sweep(const SweepPlan& plan, RunOptions options, const RunWorld& run) {
  SweepResult result;
  options.sweep = true;
  for (std::uint64_t seed = plan.first_seed; seed < plan.first_seed + plan.seeds; ++seed) {
    options.seed = seed;
    if (!sweep_seed(plan, options, run, result)) break;
  }
  return result;
}

}  // namespace blockmig::sim

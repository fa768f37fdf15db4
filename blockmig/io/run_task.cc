// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/run_task.h"

#include "blockmig/base/check.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig::detail {

void run_until_done(EventLoop& loop, TaskRun& run) {
  if (auto* simulated = dynamic_cast<SimLoop*>(&loop)) {
    while (!run.done) BM_CHECK(simulated->step() && "the simulated task can never finish");
    return;
  }
  run.stop_when_done = true;
  while (!run.done) loop.run();
}

}  // namespace blockmig::detail

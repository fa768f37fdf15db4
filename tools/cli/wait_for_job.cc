// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/wait_for_job.h"

#include <algorithm>

#include "tools/cli/commands.h"

namespace blockmig {
namespace {

// Short at first, so that a small disk's move is not waited for longer than it takes.
constexpr Duration kFirstPoll = std::chrono::milliseconds(10);

}  // namespace

Duration next_poll(Duration last) {
  return last == Duration::zero() ? kFirstPoll : std::min(last * 3 / 2, kLongestPoll);
}

Result<WaitResult> wait_for_job(ControlHandler& daemon, const JobStatus& job, Duration patience,
                                StopSignals& signals, ProgressDisplay& display) {
  const auto start = std::chrono::steady_clock::now();
  Duration poll{};
  WaitResult result;
  result.job = job;
  while (!is_final(result.job.state)) {
    display.show(result.job);
    poll = next_poll(poll);
    if (patience.count() != 0) {
      const Duration left = patience - (std::chrono::steady_clock::now() - start);
      if (left <= Duration::zero()) {
        result.end = WaitEnd::kTimedOut;
        break;
      }
      poll = std::min(poll, left);
    }
    if (signals.wait_for(poll)) {
      result.end = WaitEnd::kInterrupted;
      break;
    }
    const Result<std::string> answer = ask(daemon, "GET", job_path(job.id));
    if (!answer) {
      display.clear();
      return answer.error().with_context(
          "lost sight of " + job.id +
          ", which a restart of its daemon goes on with (--on-restart)");
    }
    const Result<JobStatus> seen = job_from_json(*answer);
    if (!seen) return seen.error();
    result.job = *seen;
  }
  display.clear();
  return result;
}

}  // namespace blockmig

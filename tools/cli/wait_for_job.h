// SPDX-License-Identifier: Apache-2.0
// Waiting for a job, with its progress on stderr.
#pragma once

#include <string>

#include "tools/cli/progress.h"
#include "tools/cli/stop_signals.h"
#include "tools/control/channel.h"

namespace blockmig {

enum class WaitEnd {
  kEnded,        ///< the job has
  kTimedOut,     ///< the patience has; the job goes on
  kInterrupted,  ///< by a signal; the job goes on
};

struct WaitResult {
  WaitEnd end = WaitEnd::kEnded;
  JobStatus job;  ///< as last seen
};

/// The end of a job is noticed at most this late.
inline constexpr Duration kLongestPoll = std::chrono::milliseconds(50);

/// How long to wait before looking again, after having waited for `last` (zero: not yet).
Duration next_poll(Duration last);

/// Polls until `job` has ended, `patience` (zero: any time) has passed or a signal came. An error:
/// the daemon no longer answers, or no longer knows the job.
Result<WaitResult> wait_for_job(ControlHandler& daemon, const JobStatus& job, Duration patience,
                                StopSignals& signals, ProgressDisplay& display);

}  // namespace blockmig

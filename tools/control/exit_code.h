// SPDX-License-Identifier: Apache-2.0
// The edge where our error codes become exit codes and HTTP statuses, and come back. Pure.
#pragma once

#include <string>

#include "blockmig/base/error.h"
#include "blockmig/migrate/job_status.h"

namespace blockmig {

/// Exit codes of `blockmig`; part of its interface.
enum class ExitCode : int {
  kOk = 0,
  kFailed = 1,
  kUsage = 2,
  kNotConverged = 3,  ///< or --timeout passed
  kNotFound = 4,
  kBusy = 5,
  kMismatch = 6,
  kDaemonUnreachable = 7,
  kRolledBack = 8,  ///< aborted: the guest is on the source
  kPrecondition = 9,
  kInterrupted = 130,  ///< the watcher was; the job goes on
};

ExitCode exit_code_of(const Error& error);
/// Of an ended job. Running ones count as kOk: nothing is wrong with them.
ExitCode exit_code_of(const JobStatus& job);

int http_status_of(ErrorCode code);

/// The code of that stable name (to_string(ErrorCode)); an unknown one is kIo.
ErrorCode code_from_name(const std::string& name);

}  // namespace blockmig

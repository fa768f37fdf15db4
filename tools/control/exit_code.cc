// SPDX-License-Identifier: Apache-2.0
#include "tools/control/exit_code.h"

namespace blockmig {

ExitCode exit_code_of(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kInvalid:
      return ExitCode::kUsage;
    case ErrorCode::kNotConverging:
      return ExitCode::kNotConverged;
    case ErrorCode::kNotFound:
      return ExitCode::kNotFound;
    case ErrorCode::kBusy:
      return ExitCode::kBusy;
    case ErrorCode::kMismatch:
      return ExitCode::kMismatch;
    case ErrorCode::kShutdown:
      return ExitCode::kDaemonUnreachable;
    case ErrorCode::kCancelled:
      return ExitCode::kRolledBack;
    case ErrorCode::kPrecondition:
    case ErrorCode::kNoSpace:
    case ErrorCode::kReadOnly:
    case ErrorCode::kNotSupported:
      return ExitCode::kPrecondition;
    case ErrorCode::kIo:
    case ErrorCode::kTimedOut:
    case ErrorCode::kDisconnected:
    case ErrorCode::kProtocol:
    case ErrorCode::kNoMemory:
    case ErrorCode::kOverflow:
      return ExitCode::kFailed;
  }
  return ExitCode::kFailed;
}

ExitCode exit_code_of(const JobStatus& job) {
  switch (job.state) {
    case JobState::kRunning:
    case JobState::kPaused:
    case JobState::kDone:
      return ExitCode::kOk;
    case JobState::kAborted:
      return ExitCode::kRolledBack;
    case JobState::kFailed:
      return job.error ? exit_code_of(*job.error) : ExitCode::kFailed;
  }
  return ExitCode::kFailed;
}

int http_status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalid:
      return 400;
    case ErrorCode::kReadOnly:
      return 403;
    case ErrorCode::kNotFound:
      return 404;
    case ErrorCode::kBusy:
    case ErrorCode::kMismatch:
      return 409;
    case ErrorCode::kPrecondition:
    case ErrorCode::kNotConverging:
      return 412;
    case ErrorCode::kOverflow:
      return 413;
    case ErrorCode::kNotSupported:
      return 422;
    case ErrorCode::kDisconnected:
    case ErrorCode::kProtocol:
      return 502;
    case ErrorCode::kShutdown:
    case ErrorCode::kCancelled:
      return 503;
    case ErrorCode::kTimedOut:
      return 504;
    case ErrorCode::kNoSpace:
      return 507;
    case ErrorCode::kIo:
    case ErrorCode::kNoMemory:
      return 500;
  }
  return 500;
}

ErrorCode code_from_name(const std::string& name) {
  for (int value = 0; value <= static_cast<int>(ErrorCode::kOverflow); ++value) {
    const auto code = static_cast<ErrorCode>(value);
    if (to_string(code) == name) return code;
  }
  return ErrorCode::kIo;
}

}  // namespace blockmig

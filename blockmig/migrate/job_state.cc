// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/job_state.h"

#include "blockmig/base/check.h"

namespace blockmig {

std::string_view to_string(JobState state) {
  switch (state) {
    case JobState::kRunning:
      return "running";
    case JobState::kPaused:
      return "paused";
    case JobState::kDone:
      return "done";
    case JobState::kFailed:
      return "failed";
    case JobState::kAborted:
      return "aborted";
  }
  return "unknown";
}

std::string_view to_string(Phase phase) {
  switch (phase) {
    case Phase::kPreparing:
      return "preparing";
    case Phase::kCopying:
      return "copying";
    case Phase::kMirroring:
      return "mirroring";
    case Phase::kSwitching:
      return "switching";
    case Phase::kHydrating:
      return "hydrating";
    case Phase::kEnded:
      return "ended";
  }
  return "unknown";
}

void enter_state(JobState& state, JobState next) {
  bool legal = false;
  switch (state) {
    case JobState::kRunning:
      legal = next != JobState::kRunning;
      break;
    case JobState::kPaused:
      legal = next != JobState::kPaused && next != JobState::kDone;
      break;
    case JobState::kDone:
    case JobState::kFailed:
    case JobState::kAborted:
      break;
  }
  BM_CHECK(legal);
  state = next;
}

void enter_phase(Phase& phase, Phase next) {
  if (phase == next) return;
  bool legal = false;
  switch (phase) {
    case Phase::kPreparing:
      legal = true;
      break;
    case Phase::kCopying:
      legal = next != Phase::kPreparing && next != Phase::kHydrating;
      break;
    case Phase::kMirroring:
      legal = next != Phase::kPreparing;
      break;
    case Phase::kSwitching:
      legal = next != Phase::kPreparing;
      break;
    case Phase::kHydrating:
      legal = next == Phase::kSwitching || next == Phase::kEnded;
      break;
    case Phase::kEnded:
      break;
  }
  BM_CHECK(legal);
  phase = next;
}

}  // namespace blockmig

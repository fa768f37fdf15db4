// SPDX-License-Identifier: Apache-2.0
// States and phases of a migration job.
//
//   kRunning ◀──▶ kPaused            pause() / resume()
//      │   │         │
//      │   └────┬────┘
//      │        ├──▶ kAborted        abort(), before the decision
//      │        └──▶ kFailed         an error, before the decision: the guest is on the source (I8)
//      └──▶ kDone                    after the decision; nothing leads back
//
//   kPreparing ▶ kCopying ▶ kSwitching ▶ kEnded
//                   ▲  ◀──▶ kMirroring ──┐ │└──▶ kHydrating ▶ kEnded
//                   └────────────────────┴─┘ a switchover that would take too long goes back
//
// kHydrating comes after the decision; a job that a restart finds in it begins there.
//
// Every transition goes through enter_state()/enter_phase() (job_state.cc), which know the legal
// ones.
#pragma once

#include <string_view>

namespace blockmig {

enum class JobState : unsigned char { kRunning, kPaused, kDone, kFailed, kAborted };
std::string_view to_string(JobState state);
constexpr bool is_final(JobState state) {
  return state == JobState::kDone || state == JobState::kFailed || state == JobState::kAborted;
}

enum class Phase : unsigned char {
  kPreparing,  ///< opening and checking the target, arming the tracking, scanning the allocation
  kCopying,    ///< bulk pass and dirty passes
  kMirroring,  ///< the same with the mirror attached
  kSwitching,  ///< gate closed
  kHydrating,  ///< the disk runs on the target; what is absent there is fetched
  kEnded,
};
std::string_view to_string(Phase phase);

/// Moves `state` to `next`; an illegal transition aborts the process (a bug of ours, not of a
/// peer).
void enter_state(JobState& state, JobState next);
void enter_phase(Phase& phase, Phase next);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// What a mode of passes does when the guest is faster than the target: as --on-stall says.
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {

Task<Result<bool>> act_on_stall(Migration& migration, std::string mode, std::string reason) {
  migration.postponed = 0;
  Status moved;
  switch (migration.options.on_stall) {
    case OnStall::kFail:
      co_return Error(ErrorCode::kNotConverging, reason);
    case OnStall::kThrottle:
      throttle_guest(migration);
      co_return false;
    case OnStall::kPostcopy:
      note_decision(migration, mode + " -> postcopy", reason);
      moved = co_await run_postcopy(migration);
      break;
    case OnStall::kMirror:
      note_decision(migration, mode + " -> mirror", reason);
      moved = co_await run_mirror(migration);
      break;
  }
  if (!moved.ok()) co_return moved.error();
  co_return true;
}

Task<Status> copy_without_mirror(Migration& migration) {
  for (;;) {
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++migration.status.passes;
    const Judgement judgement = judge(migration, Duration::zero());
    if (judgement.verdict == Verdict::kReady) {
      const auto outcome = co_await try_switchover(migration);
      if (!outcome.ok()) co_return outcome.error();
      if (*outcome == SwitchOutcome::kSwitched) co_return Status();
      co_await wait_to_retry(migration, *outcome);
    } else if (judgement.verdict == Verdict::kNotConverging) {
      migration.postponed = 0;
      if (migration.options.on_stall == OnStall::kFail) {
        co_return Error(ErrorCode::kNotConverging, judgement.reason);
      }
      throttle_guest(migration);
    }
  }
}

}  // namespace blockmig

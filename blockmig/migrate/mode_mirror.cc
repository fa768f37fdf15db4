// SPDX-License-Identifier: Apache-2.0
// mirror: one pass, with the guest's writes behind it going to both sides. What is copied stays
// equal, so the pass converges at any write rate that the target can pace within the deadline. What
// could not be mirrored (writes into a chunk that was being copied, or while the target was late)
// is caught up in small rounds. A guest with more bytes outstanding than the target takes within
// the mirror's deadline can still outrun it: then this says so, and goes on, throttles the guest,
// leaves the rest behind or fails, as the user chose.
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

/// The catch-up makes no headway: the mirror's own means first, then what the user chose.
Status pace_or_throttle(Migration& migration, const Judgement& judgement, unsigned& pace_steps) {
  if (pace_guest(migration, judgement, pace_steps)) return {};
  const OnStall action = migration.options.on_stall;
  if (action == OnStall::kFail) return Error(ErrorCode::kNotConverging, judgement.reason);
  if (action == OnStall::kThrottle) throttle_guest(migration);
  return {};
}

}  // namespace

Task<Status> run_mirror(Migration& migration) {
  migration.status.active_mode = Mode::kMirror;
  enter_phase(migration.status.phase, Phase::kMirroring);
  migration.mirror = std::make_unique<Mirror>(migration.loop, *migration.replica, *migration.sync,
                                              migration.options);
  migration.engine->set_mirror(migration.mirror.get());
  migration.disk.set_mirror(migration.mirror.get());
  migration.postponed = 0;
  unsigned pace_steps = 0;
  for (bool first = true;; first = false) {
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++(first ? migration.status.passes : migration.status.catch_up_rounds);
    const Judgement judgement = judge(migration, Duration::zero());
    if (judgement.verdict == Verdict::kNotConverging) {
      if (migration.options.on_stall == OnStall::kPostcopy && pace_steps >= kPaceSteps) {
        note_decision(migration, "mirror -> postcopy", judgement.reason);
        const Status hydrated = co_await run_postcopy(migration);
        co_return hydrated;
      }
      migration.postponed = 0;
      const Status acted = pace_or_throttle(migration, judgement, pace_steps);
      if (!acted.ok()) co_return acted;
    }
    if (judgement.verdict != Verdict::kReady || judgement.worth_another_pass) continue;
    const auto outcome = co_await try_switchover(migration);
    if (!outcome.ok()) co_return outcome.error();
    if (*outcome == SwitchOutcome::kSwitched) co_return Status();
    co_await wait_to_retry(migration, *outcome);
  }
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// mirror: one pass, with the guest's writes behind it going to both sides. What is copied stays
// equal, so the pass converges at any write rate. What could not be mirrored (writes into a chunk
// that was being copied, or while the target was late) is caught up in small rounds.
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {

Task<Status> run_mirror(Migration& migration) {
  migration.status.active_mode = Mode::kMirror;
  enter_phase(migration.status.phase, Phase::kMirroring);
  migration.mirror = std::make_unique<Mirror>(migration.loop, *migration.replica, *migration.sync,
                                              migration.options);
  migration.engine->set_mirroring(true);
  migration.disk.set_mirror(migration.mirror.get());
  migration.postponed = 0;
  unsigned tries = 0;
  for (bool first = true;; first = false) {
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++(first ? migration.status.passes : migration.status.catch_up_rounds);
    const Judgement judgement = judge(migration, Duration::zero());
    if (judgement.verdict != Verdict::kReady) continue;
    const auto outcome = co_await try_switchover(migration);
    if (!outcome.ok()) co_return outcome.error();
    if (*outcome == SwitchOutcome::kSwitched) co_return Status();
    co_await back_off(migration, tries++);
  }
}

}  // namespace blockmig

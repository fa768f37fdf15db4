// SPDX-License-Identifier: Apache-2.0
// cold: writers are parked for the whole copy, readers are not. Exact and fast for a disk that
// nobody uses; a guest that writes waits. Not for a target in trouble, or an operator who has
// paused the job: then the writers are let go, what they write is marked, and they are parked again
// for another pass when it goes on.
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

constexpr Duration kDrainStep = std::chrono::milliseconds(200);

/// Returns when every write that was already inside has ended; later ones wait before the gate.
Task<void> drain_writes(Migration& migration) {
  bool drained = false;
  while (!drained && !migration.cancel.cancelled()) {
    const TimePoint until = migration.loop.now() + kDrainStep;
    drained = co_await migration.disk.gate().close_until(until);
    migration.disk.gate().open();
  }
}

}  // namespace

Task<Status> run_cold(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  TokenBucket& writers = migration.disk.write_throttle();
  for (unsigned postponed = 0;; ++postponed) {
    co_await wait_while_paused(migration);
    if (!writers.held()) {
      writers.hold();
      co_await drain_writes(migration);
    }
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++migration.status.passes;
    if (!writers.held()) continue;
    judge(migration, Duration::zero());
    const auto outcome = co_await try_switchover(migration);
    if (!outcome.ok()) co_return outcome.error();
    if (*outcome == SwitchOutcome::kSwitched) co_return Status();
    co_await back_off(migration, postponed);
  }
}

}  // namespace blockmig

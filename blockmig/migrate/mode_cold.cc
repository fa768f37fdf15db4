// SPDX-License-Identifier: Apache-2.0
// cold: writers are parked for the whole copy, readers are not. Exact and fast for a disk that
// nobody uses; a guest that writes waits.
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
  migration.disk.write_throttle().hold();
  co_await drain_writes(migration);
  for (unsigned postponed = 0;; ++postponed) {
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++migration.status.passes;
    judge(migration, Duration::zero());
    const auto outcome = co_await try_switchover(migration);
    if (!outcome.ok()) co_return outcome.error();
    if (*outcome == SwitchOutcome::kSwitched) co_return Status();
    co_await back_off(migration, postponed);
  }
}

}  // namespace blockmig

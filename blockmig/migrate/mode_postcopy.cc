// SPDX-License-Identifier: Apache-2.0
// postcopy: switchover first. The disk runs on the target at once; what is absent there is pulled
// from the old store on demand, demanded chunks first, the rest in the background. Also how a `dbt`
// that does not converge ends with --on-stall postcopy: with what it has copied.
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {

namespace {

/// What is mirrored would need a flush under the fence. What is not is left behind, and fetched.
void stop_mirroring(Migration& migration) {
  migration.disk.set_mirror(nullptr);
  migration.engine->set_mirror(nullptr);
}

}  // namespace

Task<Status> run_postcopy(Migration& migration) {
  migration.status.active_mode = Mode::kPostcopy;
  if (migration.status.phase == Phase::kPreparing) {
    enter_phase(migration.status.phase, Phase::kCopying);
  }
  begin_pivot(migration);
  for (;;) {
    const auto outcome = co_await try_switchover(migration);
    if (!outcome.ok()) co_return outcome.error();
    if (*outcome == SwitchOutcome::kSwitched) break;
    if (*outcome == SwitchOutcome::kFlushTooSlow) stop_mirroring(migration);
    co_await wait_to_retry(migration, *outcome);
    if (migration.cancel.cancelled()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
  }
  const Status hydrated = co_await run_hydration(migration);
  co_return hydrated;
}

}  // namespace blockmig

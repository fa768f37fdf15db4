// SPDX-License-Identifier: Apache-2.0
// settle: the disk goes back into the image in the folder that it fetches from, while the guest
// writes. Only what its own store has and the image lacks is copied, in passes like in `dbt`; then
// the switchover, and the disk lives in the folder again. No mirror (it would reach the image
// before the disk's own store durably has the chunk): a guest that is too fast is held back, or the
// job ends.
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/settle.h"

namespace blockmig {
Task<Status> run_settle(Migration& migration) {
  migration.status.active_mode = Mode::kSettle;
  enter_phase(migration.status.phase, Phase::kCopying);
  const Status moved = co_await copy_without_mirror(migration);
  if (moved.ok()) co_await finish_settling(migration);
  co_return moved;
}

}  // namespace blockmig

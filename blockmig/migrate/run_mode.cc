// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/migration.h"

namespace blockmig {

Task<Status> run_mode(Migration& migration) {
  Status moved;
  switch (migration.options.mode) {
    case Mode::kCold:
      moved = co_await run_cold(migration);
      break;
    case Mode::kDbt:
    case Mode::kReturn:
      moved = co_await run_dbt(migration);
      break;
    case Mode::kMirror:
      moved = co_await run_mirror(migration);
      break;
    case Mode::kAuto:
      moved = co_await run_auto(migration);
      break;
    case Mode::kSnapshot:
      if (migration.options.point_in_time) {
        moved = co_await run_point_in_time(migration);
      } else {
        moved = co_await run_snapshot(migration);
      }
      break;
    case Mode::kPostcopy:
      moved = co_await run_postcopy(migration);
      break;
    case Mode::kShared:
      moved = co_await run_shared(migration);
      break;
    case Mode::kSettle:
      moved = co_await run_settle(migration);
      break;
    case Mode::kHybrid:
      moved = co_await run_hybrid(migration);
      break;
  }
  co_return moved;
}

}  // namespace blockmig

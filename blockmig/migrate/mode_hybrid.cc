// SPDX-License-Identifier: Apache-2.0
// hybrid: one bulk pass over the cold data, in which the guest writes where it likes, then the
// switchover with the hot rest left behind and pulled: what is written again and again (it would be
// dirty again before it had arrived), and what was written during the pass. Every chunk travels at
// most twice, at any write rate, and no write waits for a copy.
#include "blockmig/base/units.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

Task<Status> run_hybrid(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  // The engine uses the old order until it has the new one.
  auto cold_only = make_cold_only_order(migration.disk.write_heat());
  migration.engine->set_order(cold_only.get());
  migration.order = std::move(cold_only);
  const Status copied = co_await copy_pass(migration);
  if (!copied.ok()) co_return copied;
  ++migration.status.passes;
  note_decision(migration, "hybrid -> postcopy",
                format_bytes(migration.sync->dirty->dirty_bytes()) +
                    " are hot or were written during the pass: they follow the switchover");
  const Status hydrated = co_await run_postcopy(migration);
  co_return hydrated;
}

}  // namespace blockmig

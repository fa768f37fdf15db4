// SPDX-License-Identifier: Apache-2.0
// hybrid: one bulk pass, in which the guest writes where it likes, then the switchover with what it
// has dirtied meanwhile, the hot rest, left behind and pulled. Every chunk travels at most twice,
// at any write rate, and no write waits for a copy.
#include "blockmig/migrate/migration.h"

namespace blockmig {

Task<Status> run_hybrid(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  const Status copied = co_await copy_pass(migration);
  if (!copied.ok()) co_return copied;
  ++migration.status.passes;
  const Status hydrated = co_await run_postcopy(migration);
  co_return hydrated;
}

}  // namespace blockmig

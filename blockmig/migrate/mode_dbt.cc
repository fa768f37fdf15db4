// SPDX-License-Identifier: Apache-2.0
// dbt: dirty-block tracking. A bulk pass, then passes over what was dirtied meanwhile, until the
// rest fits the downtime budget. The guest's writes never wait for the target. It need not
// converge; then it says so, with the numbers, and does what the user chose.
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
Task<Status> run_dbt(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  for (;;) {
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++migration.status.passes;
    const Judgement judgement = judge(migration, Duration::zero());
    switch (judgement.verdict) {
      case Verdict::kReady: {
        if (judgement.worth_another_pass) break;
        const auto outcome = co_await try_switchover(migration);
        if (!outcome.ok()) co_return outcome.error();
        if (*outcome == SwitchOutcome::kSwitched) co_return Status();
        co_await wait_to_retry(migration, *outcome);
        break;
      }
      case Verdict::kConverging:
        break;
      case Verdict::kNotConverging: {
        const auto over = co_await act_on_stall(migration, "dbt", judgement.reason);
        if (!over.ok()) co_return over.error();
        if (*over) co_return Status();
        break;
      }
    }
  }
}

}  // namespace blockmig

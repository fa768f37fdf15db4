// SPDX-License-Identifier: Apache-2.0
// dbt: dirty-block tracking. A bulk pass, then passes over what was dirtied meanwhile, until the
// rest fits the downtime budget. The guest's writes never wait for the target. It need not
// converge; then it says so, with the numbers, and does what the user chose.
#include <algorithm>

#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

std::uint64_t per_second(std::uint64_t bytes, Duration took) {
  const double seconds = std::max(std::chrono::duration<double>(took).count(), 1e-3);
  return static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds);
}

void throttle_guest(Migration& migration) {
  const PassRecord& last = migration.passes.back();
  TokenBucket& throttle = migration.disk.write_throttle();
  if (migration.guest_rate_before_throttle == 0) {
    migration.guest_rate_before_throttle = per_second(last.guest_bytes, last.took);
  }
  throttle.set_rate(next_guest_limit(throttle.rate(), migration.guest_rate_before_throttle,
                                     per_second(last.copied_bytes, last.took)));
}

}  // namespace

Task<Status> run_dbt(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  for (;;) {
    const Status copied = co_await copy_pass(migration);
    if (!copied.ok()) co_return copied;
    ++migration.status.passes;
    const Judgement judgement = judge(migration, Duration::zero());
    switch (judgement.verdict) {
      case Verdict::kReady: {
        const auto outcome = co_await try_switchover(migration);
        if (!outcome.ok()) co_return outcome.error();
        if (*outcome == SwitchOutcome::kSwitched) co_return Status();
        co_await back_off(migration, migration.postponed++);
        break;
      }
      case Verdict::kConverging:
        break;
      case Verdict::kNotConverging:
        migration.postponed = 0;
        switch (migration.options.on_stall) {
          case OnStall::kFail:
            co_return Error(ErrorCode::kNotConverging, judgement.reason);
          case OnStall::kThrottle:
            throttle_guest(migration);
            break;
          case OnStall::kMirror: {
            const Status mirrored = co_await run_mirror(migration);
            co_return mirrored;
          }
        }
        break;
    }
  }
}

}  // namespace blockmig

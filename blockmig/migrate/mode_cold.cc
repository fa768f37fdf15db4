// SPDX-License-Identifier: Apache-2.0
// cold: writers are parked for the whole copy, readers are not. Exact and fast for a disk that
// nobody uses; a guest that writes waits. Not for a target in trouble, or an operator who has
// paused the job: then the writers are let go, what they write is marked, and they are parked again
// for another pass when it goes on.
#include <optional>

#include "blockmig/base/units.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

constexpr Duration kDrainStep = std::chrono::milliseconds(200);

/// What the parked writers have waited for in vain.
Error waited_in_vain(const Migration& migration) {
  const JobOptions& options = migration.options;
  return Error(ErrorCode::kNotConverging,
               "the disk's writers have waited " + format_duration(options.target_timeout) +
                   " (--target-timeout) for a switchover that fits --max-downtime " +
                   format_duration(options.max_downtime) +
                   ", and are let go: " + migration.status.verdict);
}

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
  std::optional<TimePoint> in_vain;  // since when switchovers are
  for (;;) {
    co_await wait_while_paused(migration);
    if (!writers.held()) {
      in_vain.reset();
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
    if (!writers.held()) continue;
    const TimePoint now = migration.loop.now();
    if (!in_vain) in_vain = now;
    if (now - *in_vain >= migration.options.target_timeout) co_return waited_in_vain(migration);
    co_await wait_to_retry(migration, *outcome);
  }
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/target_flush.h"

#include <algorithm>

#include "blockmig/base/units.h"

namespace blockmig {
namespace {

constexpr int kPreFlushes = 3;
/// The fence is this many times as long as what is under way at the target when it begins may take,
/// and as a flush that is called cheap.
constexpr int kDrainsPerFence = 4;
constexpr int kCheapFlushesPerFence = 4;
constexpr int kApproachDeadlines = 2;
/// So many switchovers in a row that the flush leaves no time for are hopeless.
constexpr unsigned kHopelessFlushes = 3;

bool flush_is_cheap(const Migration& migration) {
  return migration.flush_cost * kCheapFlushesPerFence < migration.options.max_downtime;
}

/// Waits for the answer as long as the target may be silent. What is kept from it for the fence's
/// sake (`quiet`) is let go when the fence would have ended.
Task<Status> measure_flush(Migration& migration, bool quiet) {
  const TimePoint begun = migration.loop.now();
  const TimePoint silent = begun + migration.options.target_timeout;
  auto op = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kFlush);
  const TimePoint until =
      quiet ? std::min(begun + longest_fence(migration.options), silent) : silent;
  Status flushed = co_await migration.replica->perform(op, until);
  if (quiet) migration.mirror->turn_away(false);
  if (!op->done.is_set() && until < silent) {
    const bool answered = co_await op->done.wait_until(silent);
    if (answered) flushed = op->status;
  }
  migration.flush_cost = migration.loop.now() - begun;
  if (flushed.ok()) co_return flushed;
  migration.replica->note_trouble(flushed.error());
  co_return flushed.error().with_context("flushing the target");
}

}  // namespace

Task<bool> approach_fence(Migration& migration) {
  if (!migration.mirror) co_return true;
  const Duration drain = migration.options.max_downtime / kDrainsPerFence;
  const TimePoint deadline =
      migration.loop.now() + kApproachDeadlines * migration.options.mirror_deadline;
  const bool near = co_await migration.mirror->approach(drain, deadline);
  if (!near) migration.mirror->turn_away(false);
  co_return near;
}

Task<Status> flush_before_fence(Migration& migration) {
  // Where it is known to be slow, every further one is only time for the guest to write in.
  const int most = migration.slow_flushes == 0 ? kPreFlushes : 1;
  for (int i = 0; i < most; ++i) {
    const Status flushed = co_await measure_flush(migration, false);
    if (!flushed.ok()) co_return flushed;
    if (flush_is_cheap(migration)) break;
  }
  // One that queues behind mirrored writes says nothing about one under the fence, which has none
  // before it.
  if (flush_is_cheap(migration)) migration.slow_flushes = 0;
  if (!migration.mirror || flush_is_cheap(migration)) co_return Status();
  const bool near = co_await approach_fence(migration);
  if (!near) co_return Status();
  const Status flushed = co_await measure_flush(migration, true);
  co_return flushed;
}

bool flush_outlasts_fence(const Migration& migration) {
  return migration.flush_cost > longest_fence(migration.options);
}

bool all_is_durable(const Migration& migration) {
  const Replica& replica = *migration.replica;
  return replica.in_flight() == 0 && replica.all_flushed();
}

Task<Result<SwitchOutcome>> flush_under_fence(Migration& migration, TimePoint deadline) {
  if (flush_outlasts_fence(migration)) {
    co_return all_is_durable(migration) ? SwitchOutcome::kSwitched : SwitchOutcome::kFlushTooSlow;
  }
  const TimePoint begun = migration.loop.now();
  auto op = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kFlush);
  const Status flushed = co_await migration.replica->perform(op, deadline);
  if (flushed.ok()) co_return SwitchOutcome::kSwitched;
  if (flushed.error().code() != ErrorCode::kTimedOut) {
    co_return flushed.error().with_context("flushing the target");
  }
  // One that was cheap before has the rest to make durable, which is the guest's doing.
  if (flush_is_cheap(migration)) co_return SwitchOutcome::kPostponed;
  migration.flush_cost = std::max(migration.flush_cost, migration.loop.now() - begun);
  co_return SwitchOutcome::kFlushTooSlow;
}

std::string slow_flush_text(const Migration& migration) {
  return "the target's flush takes " + format_duration(migration.flush_cost) +
         ", which is too long for --max-downtime " +
         format_duration(migration.options.max_downtime) + ": raise it with 'blockmig set " +
         migration.disk.name() + " max-downtime=...'";
}

Result<SwitchOutcome> note_slow_flush(Migration& migration) {
  const std::string reason = slow_flush_text(migration);
  migration.status.verdict = reason;
  if (++migration.slow_flushes == 1) note_decision(migration, "no switchover yet", reason);
  const JobOptions& options = migration.options;
  const bool hopeless = migration.slow_flushes >= kHopelessFlushes;
  if (hopeless && may_stall(options) && options.on_stall == OnStall::kFail) {
    return Error(ErrorCode::kNotConverging, reason);
  }
  return SwitchOutcome::kFlushTooSlow;
}

}  // namespace blockmig

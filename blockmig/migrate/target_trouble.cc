// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/target_trouble.h"

#include <string>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/units.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/prepare.h"

namespace blockmig {
namespace {

/// While the job is paused by the target.
constexpr BackOff kPausedBackOff{kStoreBackOff.first, std::chrono::seconds(10)};
/// Trouble that comes back sooner than this is the same trouble.
constexpr Duration kQuiet = std::chrono::seconds(5);

Error cancellation() { return Error(ErrorCode::kCancelled, "the job was aborted"); }

/// The probe: what is still with the target ends, then it is opened anew if it must be, takes a
/// flush, and then a chunk that has to be copied anyway.
Task<Status> try_target(Migration& migration) {
  Replica& replica = *migration.replica;
  const TimePoint soon = migration.loop.now() + kStoreBackOff.first;
  const bool idle = co_await replica.idle_until(soon);
  if (!idle && replica.is_reviving()) {
    co_return replica.silent_in_revival();
  }
  if (!idle) {
    co_return Error(ErrorCode::kTimedOut, "target " + replica.info().name +
                                              " still has requests that it does not answer");
  }
  const TimePoint opened = migration.loop.now() + migration.options.target_timeout;
  const Status revived = co_await replica.revive(opened);
  if (!revived.ok()) co_return revived;
  auto flush = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kFlush);
  const TimePoint deadline = migration.loop.now() + migration.options.target_timeout;
  const Status flushed = co_await replica.perform(flush, deadline);
  if (!flushed.ok()) co_return flushed.error().with_context("flushing the target");
  const std::uint64_t errors = replica.errors();
  const Status copied = co_await migration.engine->copy_one();
  const bool silent = !copied.ok() && copied.error().code() == ErrorCode::kTimedOut;
  // An error of the source is the pass's to see to.
  if (!copied.ok() && !silent && is_trouble(copied.error()) && replica.errors() == errors) {
    co_return Status();
  }
  if (!copied.ok() || !migration.pivot) co_return copied;
  const Status written = co_await write_one_absent(migration);
  co_return written;
}

/// A generation whose chunks are gone at the target cannot be given them again: the disk has gone
/// on since.
void tear_generation(Migration& migration, std::uint64_t losses_before) {
  if (!migration.generation || migration.replica->losses() == losses_before) return;
  migration.generation->give_up("the target lost what it had not made durable");
}

void begin_trouble(Migration& migration, const Error& reason) {
  TroubleRecord& trouble = migration.trouble;
  const TimePoint now = migration.loop.now();
  if (trouble.times == 0 || now - trouble.ended > kQuiet) {
    trouble.began = now;
    trouble.failures = 0;
  }
  ++trouble.times;
  migration.status.error = reason;
  trouble.lasts = true;
  limit_guest(migration);
}

void hold(Migration& migration, const Error& reason) {
  migration.held = true;
  note_decision(migration, "paused by the target", reason.message());
  show_pause(migration);
}

void end_trouble(Migration& migration) {
  TroubleRecord& trouble = migration.trouble;
  trouble.ended = migration.loop.now();
  trouble.lasts = false;
  limit_guest(migration);
  if (migration.replica) migration.replica->forget_trouble();
  migration.status.error.reset();
  if (!migration.held) return;
  migration.held = false;
  note_decision(migration, "resumed",
                "the target works again, after " + format_duration(trouble.ended - trouble.began));
  show_pause(migration);
}

/// Until the next try is due, or an operator asks for it; not while one wants the job to wait.
Task<void> wait_for_next_try(Migration& migration) {
  const Duration delay = retry_delay(migration.trouble.failures++, migration.held);
  const TimePoint due = migration.loop.now() + delay;
  const bool asked = co_await migration.wake.wait_until(due);
  while (migration.waits() && !migration.cancel.cancelled()) {
    co_await migration.wake.wait();
  }
  if (!asked || migration.held) co_return;
  // An operator has resumed it: as if the trouble had just begun.
  migration.trouble.began = migration.loop.now();
  migration.trouble.failures = 0;
}

}  // namespace

bool is_trouble(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kIo:
    case ErrorCode::kNoSpace:
    case ErrorCode::kTimedOut:
    case ErrorCode::kDisconnected:
    case ErrorCode::kShutdown:
    case ErrorCode::kNoMemory:
      return true;
    case ErrorCode::kInvalid:
    case ErrorCode::kNotSupported:
    case ErrorCode::kReadOnly:
    case ErrorCode::kNotFound:
    case ErrorCode::kBusy:
    case ErrorCode::kCancelled:
    case ErrorCode::kProtocol:
    case ErrorCode::kMismatch:
    case ErrorCode::kPrecondition:
    case ErrorCode::kNotConverging:
    case ErrorCode::kOverflow:
      return false;
  }
  return false;
}

bool may_come_back(const Error& error) {
  return is_trouble(error) || error.code() == ErrorCode::kNotFound ||
         error.code() == ErrorCode::kBusy;
}

TroubleStep next_step(OnTargetError action, ErrorCode code, Duration lasted, Duration retry_for) {
  switch (action) {
    case OnTargetError::kFail:
      return TroubleStep::kFail;
    case OnTargetError::kPause:
      return TroubleStep::kPause;
    case OnTargetError::kRetry:
      break;
  }
  // A full target stays full until somebody makes room, and a silent one has been waited for.
  const bool in_vain = code == ErrorCode::kNoSpace || code == ErrorCode::kTimedOut;
  return in_vain || lasted >= retry_for ? TroubleStep::kPause : TroubleStep::kRetry;
}

Duration retry_delay(unsigned failures, bool paused) {
  return (paused ? kPausedBackOff : kStoreBackOff).after(failures);
}

Task<Result<std::unique_ptr<BlockDevice>>> reach_target(Migration& migration,
                                                        std::shared_ptr<TargetOpener> opener,
                                                        TaskScope& leftovers) {
  const OnTargetError action = migration.options.on_target_error;
  const CancelSource::Callback on_cancel(migration.cancel,
                                         [&migration] { migration.wake.pulse(); });
  for (bool away = false;; away = true) {
    auto target = co_await open_target(migration, opener, leftovers);
    if (target.ok() && away) end_trouble(migration);
    const bool waits = migration.status.attempt > 1 && action != OnTargetError::kFail;
    if (target.ok() || !waits || !may_come_back(target.error())) {
      co_return std::move(target);
    }
    const Error reason = target.error();
    if (!away) begin_trouble(migration, reason);
    migration.status.error = reason;
    const Duration lasted = migration.loop.now() - migration.trouble.began;
    const TroubleStep step = next_step(action, reason.code(), lasted, migration.options.retry_for);
    if (step == TroubleStep::kPause && !migration.held) hold(migration, reason);
    if (!migration.cancel.cancelled()) co_await wait_for_next_try(migration);
    if (migration.cancel.cancelled()) co_return cancellation();
  }
}

Task<Status> outlast_trouble(Migration& migration) {
  Replica& replica = *migration.replica;
  Error reason = *replica.trouble();
  const OnTargetError action = migration.options.on_target_error;
  if (action == OnTargetError::kFail) co_return reason;
  begin_trouble(migration, reason);
  const CancelSource::Callback on_cancel(migration.cancel,
                                         [&migration] { migration.wake.pulse(); });
  tear_generation(migration, migration.losses_seen);
  for (;;) {
    migration.losses_seen = replica.losses();
    const Duration lasted = migration.loop.now() - migration.trouble.began;
    const TroubleStep step = next_step(action, reason.code(), lasted, migration.options.retry_for);
    if (step == TroubleStep::kPause && !migration.held) hold(migration, reason);
    if (!migration.cancel.cancelled()) co_await wait_for_next_try(migration);
    if (migration.cancel.cancelled()) co_return cancellation();
    const Status tried = co_await try_target(migration);
    tear_generation(migration, migration.losses_seen);
    if (migration.cancel.cancelled()) co_return cancellation();
    if (tried.ok()) break;
    if (tried.error().code() == ErrorCode::kMismatch) co_return tried;
    reason = tried.error();
    migration.status.error = reason;
  }
  migration.losses_seen = replica.losses();
  end_trouble(migration);
  co_return Status();
}

}  // namespace blockmig

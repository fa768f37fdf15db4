// SPDX-License-Identifier: Apache-2.0
// snapshot: point-in-time generations (generation.h). The first is the whole disk, each later one
// what was written since the one before. When a generation is complete and flushed, the target is
// the disk of one instant: a crash-consistent image, which stays usable if the source is lost then.
// While the next one is applied it is a mixture; the status says which it is. When the rest fits
// the downtime budget, the switchover. --point-in-time stops after the first: a backup; the disk
// stays where it is.
#include <string>

#include "blockmig/base/units.h"
#include "blockmig/migrate/generation.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

/// So many instants in a row that did not come about, and --target-timeout, and there is none to be
/// had: each is a stall of the guest.
constexpr unsigned kHopelessInstants = 3;

Error no_instant(const Migration& migration, Duration tried_for) {
  const std::string downtime = format_duration(migration.options.max_downtime);
  return Error(ErrorCode::kNotConverging,
               "no point in time could be begun in " + format_duration(tried_for) +
                   ": there was always a request of the disk's clients, perhaps a flush, that its "
                   "store took longer for than --max-downtime " +
                   downtime + "; raise that");
}

/// Closes the gate, so that the instant is the same for every sector, and takes the dirty chunks
/// over. A drained gate opens again at once; one that does not drain in time too, and it is tried
/// later, until that is hopeless.
Task<Status> begin_generation(Migration& migration) {
  TimePoint since = migration.loop.now();
  for (unsigned attempt = 0; !migration.cancel.cancelled(); ++attempt) {
    if (migration.waits()) {
      co_await wait_while_paused(migration);
      since = migration.loop.now();
      attempt = 0;
    }
    const Duration tried_for = migration.loop.now() - since;
    if (attempt >= kHopelessInstants && tried_for >= migration.options.target_timeout) {
      co_return no_instant(migration, tried_for);
    }
    auto pending = DirtyBitmap::create(migration.sync->dirty->size_bytes(),
                                       migration.sync->dirty->granularity_bytes());
    if (!pending.ok()) co_return pending.error();
    Gate& gate = migration.disk.gate();
    const TimePoint until = migration.loop.now() + migration.options.max_downtime;
    const bool drained = co_await gate.close_until(until);
    if (drained) {
      migration.generation =
          std::make_unique<Generation>(migration.loop, *migration.sync, migration.disk.store(),
                                       migration.options, std::move(*pending));
      migration.disk.set_mirror(migration.generation.get());
      migration.engine->set_source(migration.generation.get());
      limit_guest(migration);
      migration.opener->generation_begins(++migration.status.generations_begun);
      gate.open();
      co_return Status();
    }
    gate.open();
    co_await back_off(migration, attempt);
  }
  co_return Error(ErrorCode::kCancelled, "the job was aborted");
}

/// The disk's writes are the disk's own again. Afterwards all that was not copied is dirty.
Task<void> end_generation(Migration& migration) {
  migration.disk.set_mirror(nullptr);
  migration.engine->set_source(nullptr);
  migration.generation->give_up("the copy ended before it was complete");
  co_await migration.generation->wait_empty();
}

/// No checkpoint's flush meanwhile, nor one that it has given up waiting for: where that fails, the
/// success of one beside it means nothing (I11).
Task<Status> flush_target(Migration& migration) {
  if (migration.checkpoint) co_await migration.checkpoint->hold();
  auto op = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kFlush);
  const TimePoint deadline = migration.loop.now() + migration.options.target_timeout;
  const bool idle = co_await migration.replica->idle_until(deadline);
  Status flushed = Error(ErrorCode::kTimedOut, "the target has not answered all that it was asked");
  if (idle) flushed = co_await migration.replica->perform(op, deadline);
  if (migration.checkpoint) migration.checkpoint->release();
  if (!flushed.ok()) migration.replica->note_trouble(flushed.error());
  if (!flushed.ok()) co_return flushed.error().with_context("flushing the target");
  co_return flushed;
}

/// What has been copied, since the target had `losses`. Empty: it is there. Else why not, and what
/// is not there is dirty: as the disk held it at that instant it is nowhere any more.
Task<Result<std::string>> make_durable(Migration& migration, std::uint64_t losses) {
  const Status flushed = co_await flush_target(migration);
  const std::optional<Error> trouble = migration.replica->trouble();
  if (!flushed.ok() && !(trouble && is_trouble(flushed.error()))) co_return flushed.error();
  // A checkpoint's flush may have failed, which makes one that works later worth nothing (I11).
  const bool lost = migration.replica->losses() != losses;
  if (flushed.ok() && !lost) co_return std::string();
  if (trouble) {
    const Status outlasted = co_await outlast_trouble(migration);
    if (!outlasted.ok()) co_return outlasted.error();
  }
  std::string why = "the target failed to make it durable";
  if (trouble) why += ": " + trouble->message();
  note_decision(migration, "generation given up", why);
  co_return why;
}

/// Copies one generation. Empty: the target is the disk of one instant, durably. Else why not; the
/// chunks that it lacks are dirty.
Task<Result<std::string>> copy_generation(Migration& migration) {
  co_await wait_while_paused(migration);
  const Status begun = co_await begin_generation(migration);
  if (!begun.ok()) co_return begun.error();
  const Generation& generation = *migration.generation;
  const std::uint64_t losses = migration.replica->losses();
  Status copied;
  do {
    copied = co_await copy_pass(migration);
  } while (copied.ok() && !generation.complete() && !generation.torn());
  co_await end_generation(migration);
  const std::string torn = generation.torn() ? generation.why() : "";
  migration.status.chunks_kept += generation.stats().chunks_kept;
  migration.generation.reset();
  if (!copied.ok()) co_return copied.error();
  if (!torn.empty()) {
    note_decision(migration, "generation given up", torn);
    co_return torn;
  }
  const auto lost = co_await make_durable(migration, losses);
  if (!lost.ok() || !lost->empty()) co_return lost;
  const Status told =
      co_await migration.opener->generation_complete(migration.status.generations_begun);
  if (!told.ok()) co_return told.error();
  migration.status.generations_complete = migration.status.generations_begun;
  co_return std::string();
}

}  // namespace

Task<Status> run_point_in_time(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  for (bool whole = false; !whole;) {
    const std::uint64_t waited = migration.trouble.times + migration.pauses;
    const auto torn = co_await copy_generation(migration);
    if (!torn.ok()) co_return torn.error();
    ++migration.status.passes;
    whole = torn->empty();
    // What the target's trouble or a pause spoilt is begun again: a later instant, of which only
    // the difference is copied.
    if (!whole && migration.trouble.times + migration.pauses == waited) {
      co_return Error(ErrorCode::kNotConverging, "the copy is no point in time: " + *torn);
    }
  }
  co_await report_digests(migration);
  migration.keep_target = true;
  co_return Status();
}

Task<Status> run_snapshot(Migration& migration) {
  enter_phase(migration.status.phase, Phase::kCopying);
  for (;;) {
    const auto torn = co_await copy_generation(migration);
    if (!torn.ok()) co_return torn.error();
    ++migration.status.passes;
    const Judgement judgement = judge(migration, Duration::zero());
    if (judgement.verdict == Verdict::kConverging) continue;
    if (judgement.verdict == Verdict::kReady) {
      const auto outcome = co_await try_switchover(migration);
      if (!outcome.ok()) co_return outcome.error();
      if (*outcome == SwitchOutcome::kSwitched) co_return Status();
      co_await wait_to_retry(migration, *outcome);
      continue;
    }
    const auto over = co_await act_on_stall(migration, "snapshot", judgement.reason);
    if (!over.ok()) co_return over.error();
    if (*over) co_return Status();
  }
}

}  // namespace blockmig

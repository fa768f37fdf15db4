// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/switchover.h"

#include <algorithm>
#include <string>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/read_back.h"
#include "blockmig/migrate/return_record.h"
#include "blockmig/migrate/settle.h"
#include "blockmig/migrate/target_flush.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

/// Between tries that the target's flush leaves no time for: each is a flush.
constexpr BackOff kSlowFlushBackOff{std::chrono::milliseconds(100), std::chrono::seconds(10)};

/// The disk once it is at the target.
DiskRecord record_of_decision(const Migration& migration) {
  const Disk& disk = migration.disk;
  DiskRecord record;
  record.disk = disk.name();
  record.store_uri = migration.status.target_uri;
  record.epoch = disk.epoch() + 1;
  record.size_bytes = disk.info().size_bytes;
  record.previous_uri = disk.store_uri();
  if (migration.pivot) record.hydration = migration.pivot->record.regions;
  return record;
}

/// With it the job's end: whoever restarts after the decision finds the job done (I7), or in
/// hydration.
JournalBatch batch_of_decision(const Migration& migration) {
  JournalBatch batch;
  batch.disks.push_back(record_of_decision(migration));
  const bool goes_on = migration.pivot && fetches_rest(migration);
  const JobState state = goes_on ? JobState::kRunning : JobState::kDone;
  batch.jobs.push_back(record_of_job(migration, std::string(to_string(state))));
  if (goes_on) batch.jobs.back().phase = to_string(Phase::kHydrating);
  batch.removed_sets = records_of(migration.disk.name(), migration.status.id);
  return batch;
}

Task<Status> reserve_decision(Migration& migration) {
  const JournalBatch batch = batch_of_decision(migration);
  const Status reserved = co_await migration.journal.reserve(batch);
  co_return reserved;
}

/// Just before the fence: a journal that takes nothing any more (a full filesystem) fails the job
/// here, where the guest does not notice. Found out by the decision itself it would close the disk,
/// because nobody could tell whether that was written. So the decision's room is taken here, too.
Task<Status> try_journal(Migration& migration) {
  if (planted(PlantedBug::kRefusalIsUnknown)) co_return Status();
  JournalBatch batch;
  batch.jobs.push_back(record_of_job(migration, std::string(to_string(migration.status.state))));
  batch.jobs.back().phase = to_string(Phase::kSwitching);
  migration.recorded_phase = Phase::kSwitching;  // a pass that follows puts it right
  Status saved = co_await migration.journal.commit(batch);
  if (saved.ok()) saved = co_await reserve_decision(migration);
  if (saved.ok()) co_return saved;
  co_return saved.error().with_context("the disk stays on its source, for nothing can be decided");
}

/// Writes the decision. On return the journal says who owns the disk, or nobody may serve it.
Task<Result<SwitchOutcome>> decide(Migration& migration) {
  const JournalBatch batch = batch_of_decision(migration);
  const DiskRecord& record = batch.disks.front();
  migration.deciding = true;
  if (planted(PlantedBug::kJobEndsAfterDecision)) {
    JournalBatch owner_alone;
    owner_alone.disks.push_back(record);
    const Status first = co_await migration.journal.commit(owner_alone);
    if (!first.ok()) co_return first.error();
  }
  const Status saved = co_await migration.journal.commit(batch);
  if (saved.ok()) co_return SwitchOutcome::kSwitched;
  if (not_attempted(saved.error()) && !planted(PlantedBug::kRefusalIsUnknown)) {
    migration.deciding = false;
    co_return saved.error().with_context(
        "the disk stays on its source, for nothing can be decided");
  }
  const auto found = co_await migration.journal.load_disk(record.disk);
  if (!found.ok()) {
    migration.disk.gate().shut();
    migration.status.owner_unknown = true;
    co_return found.error().with_context(
        "the owner of disk " + record.disk + " is unknown: writing the decision failed (" +
        saved.error().message() +
        ") and the journal cannot be read; the disk stays closed until a restart has read it");
  }
  if (found->has_value() && (*found)->epoch == record.epoch) co_return SwitchOutcome::kSwitched;
  migration.deciding = false;
  co_return saved.error().with_context("writing the decision");
}

/// Nothing is known to have been changed on its way.
Status judge_corruption(const Migration& migration) {
  const auto& corruption = migration.sync->corruption;
  return corruption ? Status(*corruption) : Status();
}

/// Not where the pivot leaves what is dirty to be pulled.
bool copies_all_dirty(const Migration& migration) {
  return !migration.pivot || migration.at_rest != nullptr;
}

/// An operator has paused the job, or it is being left to another daemon: it decides nothing.
bool must_wait(const Migration& migration) {
  return migration.waits() && !planted(PlantedBug::kPausedSwitches);
}

bool equal_now(const Migration& migration) {
  return migration.sync->dirty->dirty_count() == 0 && migration.sync->ledger.idle();
}

/// The fence needs no flush, as it is now.
bool durable_as_far_as_needed(const Migration& migration) {
  return all_is_durable(migration) && (!copies_all_dirty(migration) || equal_now(migration));
}

/// Everything between the closed gate and the decision. Not kSwitched when `deadline` does not
/// suffice.
Task<Result<SwitchOutcome>> switch_under_fence(Migration& migration, TimePoint deadline) {
  const bool copy_rest = copies_all_dirty(migration);
  // What is copied now would need a flush.
  if (flush_outlasts_fence(migration) && !durable_as_far_as_needed(migration)) {
    co_return SwitchOutcome::kFlushTooSlow;
  }
  if (copy_rest && !planted(PlantedBug::kDirtyCheckBeforeDrain) &&
      migration.sync->dirty->dirty_count() > 0) {
    const Status copied = co_await migration.engine->run_pass(deadline);
    if (!copied.ok() && copied.error().code() == ErrorCode::kTimedOut) {
      co_return SwitchOutcome::kPostponed;
    }
    if (!copied.ok()) co_return copied.error();
  }
  const bool idle = co_await migration.replica->idle_until(deadline);
  if (!idle) co_return SwitchOutcome::kPostponed;
  const Status sound = judge_corruption(migration);
  if (!sound.ok()) co_return sound.error();
  if (copy_rest && !planted(PlantedBug::kDirtyCheckBeforeDrain) && !equal_now(migration)) {
    co_return SwitchOutcome::kPostponed;
  }
  if (migration.pivot) {
    const auto kept = co_await keep_rest_under_fence(migration);
    if (!kept.ok()) co_return kept.error();
    if (!*kept) co_return SwitchOutcome::kPostponed;
    // That has taken of the room.
    const Status reserved = co_await reserve_decision(migration);
    if (!reserved.ok()) co_return reserved.error();
  }
  if (migration.at_rest != nullptr) {
    const Status published = co_await migration.at_rest->publish();
    if (!published.ok()) co_return published.error();
  }
  if (migration.sync->unverified) {
    const auto verified = co_await read_back_under_fence(migration, deadline);
    if (!verified.ok()) co_return verified.error();
    if (!*verified) co_return SwitchOutcome::kPostponed;
  }
  // The journal was slow, or the map large: that says nothing about the target.
  if (migration.loop.now() > deadline) co_return SwitchOutcome::kPostponed;
  if (!planted(PlantedBug::kFlushSourceOnly)) {
    const auto flushed = co_await flush_under_fence(migration, deadline);
    if (!flushed.ok() || *flushed != SwitchOutcome::kSwitched) co_return flushed;
  }
  // What failed meanwhile, by anybody's request, is not decided upon.
  if (migration.replica->trouble()) co_return SwitchOutcome::kHeldUp;
  if (migration.cancel.cancelled()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
  if (must_wait(migration)) co_return SwitchOutcome::kHeldUp;
  if (planted(PlantedBug::kSwitchConfirmedEarly)) co_await migration.opener->confirm_switch(false);
  const auto decision = co_await decide(migration);
  co_return decision;
}

/// What held the guest's writes back served the copy. What is still to be done after the decision
/// may take as long as the old store likes.
void free_writers(Migration& migration) {
  TokenBucket& writers = migration.disk.write_throttle();
  migration.guest_limit = 0;
  writers.set_rate(0);
  if (writers.held()) writers.let_go();
}

void hand_over(Migration& migration) {
  Disk& disk = migration.disk;
  migration.decided = true;
  disk.set_mirror(nullptr);
  disk.tracking().detach_job(migration.sync->dirty.get());
  disk.tracking().set_log(DirtyTracking::Recorded::kJob, nullptr);
  auto target = release_settled(migration, migration.replica->release_target());
  target->prefer_latency(true);
  if (migration.pivot) {
    swap_to_hydrating(migration, std::move(target));
  } else {
    migration.old_store =
        disk.swap_store(std::move(target), migration.status.target_uri, disk.epoch() + 1);
  }
  migration.status.epoch = disk.epoch();
  free_writers(migration);
}

/// Closes the gate, and opens it again on whoever owns the disk then.
Task<Result<SwitchOutcome>> pass_fence(Migration& migration) {
  Gate& gate = migration.disk.gate();
  const TimePoint deadline = migration.loop.now() + longest_fence(migration.options);
  if (migration.mirror) migration.mirror->turn_away(true);
  const bool waits = planted(PlantedBug::kFenceHasNoDeadline);
  const bool drained = co_await gate.close_until(waits ? TimePoint::max() : deadline);
  Result<SwitchOutcome> outcome = SwitchOutcome::kPostponed;
  if (drained) outcome = co_await switch_under_fence(migration, deadline);
  if (outcome.ok() && *outcome == SwitchOutcome::kSwitched) hand_over(migration);
  if (migration.mirror) migration.mirror->turn_away(false);
  if (gate.state() != Gate::State::kShut) gate.open();
  co_return outcome;
}

/// Whoever settles the disk later takes the digests of the manifest for what the image holds.
Task<void> complete_description(Migration& migration) {
  if (migration.at_rest == nullptr || migration.interrupt.is_set()) co_return;
  const Status described =
      co_await migration.at_rest->complete(*migration.old_store, *migration.sync->rest);
  if (described.ok()) co_return;
  note_decision(migration, "the image's manifest describes only what is at rest",
                described.error().message());
}

/// Soon the source's image is the only place of what stays there (I1). That is not flushed once
/// more under the fence, for which the source may have no time: whatever is written from here on is
/// copied, and stays there no more.
Task<Status> prepare_rest(Migration& migration) {
  if (!planted(PlantedBug::kRestNotFlushed)) {
    const Status source = co_await migration.disk.store().flush();
    if (!source.ok()) co_return source.error().with_context("flushing the source");
  }
  const Status prepared = co_await migration.at_rest->prepare(
      *migration.sync->rest, migration.disk.name(), migration.disk.epoch() + 1);
  co_return prepared;
}

Task<Result<SwitchOutcome>> flush_and_switch(Migration& migration) {
  const Status sound = judge_corruption(migration);
  if (!sound.ok()) co_return sound.error();
  if (migration.pivot) {
    const Status kept = co_await keep_rest(migration);
    if (!kept.ok()) co_return kept.error();
    const Status writable = co_await write_one_absent(migration);
    if (!writable.ok()) co_return writable.error();
  }
  if (migration.at_rest != nullptr) {
    const Status prepared = co_await prepare_rest(migration);
    if (!prepared.ok()) co_return prepared.error();
  }
  const std::uint64_t next_epoch = migration.disk.epoch() + 1;
  if (!planted(PlantedBug::kReturnRecordLate)) co_await begin_return_record(migration, next_epoch);
  if (migration.sync->unverified) {
    const Status read = co_await read_back(migration);
    if (!read.ok()) co_return read.error();
  }
  const Status flushed = co_await flush_before_fence(migration);
  if (!flushed.ok()) co_return flushed.error();
  const bool without_flush = flush_outlasts_fence(migration);
  if (without_flush && !durable_as_far_as_needed(migration)) co_return note_slow_flush(migration);
  const Duration fixed_cost = without_flush ? Duration::zero() : migration.flush_cost;
  const bool too_much_now = judge(migration, fixed_cost).verdict != Verdict::kReady;
  if (too_much_now && copies_all_dirty(migration) && migration.status.mode != Mode::kCold)
    co_return SwitchOutcome::kPostponed;
  const Status recordable = co_await try_journal(migration);
  if (!recordable.ok()) co_return recordable.error();
  if (must_wait(migration)) co_return SwitchOutcome::kHeldUp;
  if (migration.opener) {
    const Status there = co_await migration.opener->check_place();
    if (!there.ok()) co_return there.error();
  }
  if (migration.opener && !planted(PlantedBug::kSwitchNotAnnounced)) {
    const Status announced = co_await migration.opener->announce_switch();
    if (!announced.ok()) co_return announced.error().with_context("the disk stays on its source");
  }
  const Phase before = migration.status.phase;
  enter_phase(migration.status.phase, Phase::kSwitching);
  ++migration.status.switchover_attempts;
  Result<SwitchOutcome> outcome = SwitchOutcome::kPostponed;
  const bool near = co_await approach_fence(migration);
  const TimePoint begun = migration.loop.now();
  if (near) outcome = co_await pass_fence(migration);
  const bool switched = outcome.ok() && *outcome == SwitchOutcome::kSwitched;
  const double fence_ms = to_milliseconds(migration.loop.now() - begun);
  if (switched) {
    migration.status.stall_ms = fence_ms;
    const bool source_needed = migration.pivot != nullptr;
    if (migration.opener) co_await migration.opener->confirm_switch(source_needed);
    if (planted(PlantedBug::kReturnRecordLate)) co_await begin_return_record(migration, next_epoch);
    co_await settle_return_record(migration);
    co_await complete_description(migration);
    co_await report_digests(migration);
  } else {
    enter_phase(migration.status.phase, before);
    ++migration.status.switchovers_postponed;
    migration.status.postponed_ms += fence_ms;
    migration.status.verdict = "switchover postponed after " + std::to_string(fence_ms) + " ms";
    co_await migration.engine->join();
    if (outcome.ok() && *outcome == SwitchOutcome::kFlushTooSlow) {
      outcome = note_slow_flush(migration);
    }
  }
  co_return outcome;
}

/// The target failed before the decision: when it works again, another try. What it lost is dirty.
Task<Result<SwitchOutcome>> postpone_for_trouble(Migration& migration) {
  const Status outlasted = co_await outlast_trouble(migration);
  if (!outlasted.ok()) co_return outlasted.error();
  co_return SwitchOutcome::kHeldUp;
}

}  // namespace

Task<Result<SwitchOutcome>> try_switchover(Migration& migration) {
  if (migration.replica->trouble()) {
    const auto postponed = co_await postpone_for_trouble(migration);
    co_return postponed;
  }
  if (must_wait(migration)) {
    co_await wait_while_paused(migration);
    // Much may have been written meanwhile, also by parked writers, who were let go.
    co_return SwitchOutcome::kHeldUp;
  }
  if (migration.checkpoint) co_await migration.checkpoint->hold();
  auto outcome = co_await flush_and_switch(migration);
  // After the decision there is nothing to record any more.
  if (migration.checkpoint && !migration.decided) migration.checkpoint->release();
  if (!outcome.ok() && !migration.decided && !migration.deciding && migration.replica->trouble() &&
      is_trouble(outcome.error())) {
    outcome = co_await postpone_for_trouble(migration);
  }
  co_return outcome;
}

Task<void> wait_to_retry(Migration& migration, SwitchOutcome outcome) {
  if (outcome != SwitchOutcome::kFlushTooSlow) {
    // What held it up says nothing about the guest: it is not held back for that.
    const bool counts = outcome != SwitchOutcome::kHeldUp;
    const unsigned before = counts ? migration.postponed++ : 0;
    co_await back_off(migration, before);
    co_return;
  }
  const TimePoint until =
      migration.loop.now() + kSlowFlushBackOff.after(migration.slow_flushes - 1);
  // What an operator sets or wants may be the way out.
  const CancelSource::Callback on_cancel(migration.cancel,
                                         [&migration] { migration.wake.pulse(); });
  if (!migration.cancel.cancelled()) co_await migration.wake.wait_until(until);
}

}  // namespace blockmig

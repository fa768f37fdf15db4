// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/migration.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/back_off.h"
#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/migrate/target_flush.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

std::uint64_t per_second(std::uint64_t bytes, Duration took) {
  const double seconds = std::max(std::chrono::duration<double>(took).count(), 1e-3);
  return static_cast<std::uint64_t>(static_cast<double>(bytes) / seconds);
}

std::uint64_t mirrored_bytes(const Migration& migration) {
  return migration.mirror ? migration.mirror->stats().bytes_mirrored : 0;
}

}  // namespace

bool is_transient(const Error& error) { return error.code() == ErrorCode::kIo; }

std::uint64_t pending_bytes(const Migration& migration) {
  return migration.generation ? migration.generation->chunks().dirty_bytes() : 0;
}

JobRecord record_of_job(const Migration& migration, std::string state) {
  const JobStatus& status = migration.status;
  JobRecord record;
  record.id = status.id;
  record.disk = status.disk;
  record.mode = to_string(status.mode);
  record.target_uri = status.target_uri;
  record.state = std::move(state);
  record.attempt = status.attempt;
  record.request = migration.request;
  record.on_restart = to_string(migration.options.on_restart);
  Phase phase = migration.hydrating != nullptr ? Phase::kHydrating : status.phase;
  const bool ends =
      record.state != to_string(JobState::kRunning) && record.state != to_string(JobState::kPaused);
  if (ends) phase = Phase::kEnded;
  record.phase = to_string(phase);
  return record;
}

bool phase_is_recorded(const Migration& migration) {
  return migration.recorded_phase == migration.status.phase;
}

JobRecord record_of_phase(const Migration& migration) {
  // Not that a target holds it up: a restart would leave that to an operator.
  const JobState state = migration.paused_by_user ? JobState::kPaused : JobState::kRunning;
  return record_of_job(migration, std::string(to_string(state)));
}

namespace {

/// An error is the next save's: nothing rests on this.
Task<void> record_phase(Migration& migration) {
  if (phase_is_recorded(migration)) co_return;
  const Phase phase = migration.status.phase;
  JournalBatch batch;
  batch.jobs.push_back(record_of_phase(migration));
  const Status saved = co_await migration.journal.commit(batch);
  if (saved.ok()) migration.recorded_phase = phase;
}

}  // namespace

void show_pause(Migration& migration) {
  JobStatus& status = migration.status;
  if (is_final(status.state)) return;
  limit_guest(migration);
  const bool paused = migration.paused_by_user || migration.held;
  const JobState wanted = paused ? JobState::kPaused : JobState::kRunning;
  if (status.state != wanted) enter_state(status.state, wanted);
  status.paused_because.clear();
  if (migration.held && status.error) {
    status.paused_because = status.error->message();
  } else if (migration.paused_by_user) {
    status.paused_because = migration.pause_asked_by;
  }
}

void limit_guest(Migration& migration) {
  const bool waits = migration.waits() || migration.held || migration.trouble.lasts;
  TokenBucket& writes = migration.disk.write_throttle();
  // Parked writers, too: what they write is copied again.
  if (waits && writes.held()) writes.let_go();
  writes.set_rate(waits ? 0 : migration.guest_limit);
  if (migration.generation) migration.generation->set_copied(!waits);
  if (migration.mirror) migration.mirror->pace(waits ? 0 : migration.mirror_pace);
}

Task<void> wait_while_paused(Migration& migration) {
  const CancelSource::Callback on_cancel(migration.cancel,
                                         [&migration] { migration.wake.pulse(); });
  while (migration.waits() && !migration.cancel.cancelled()) {
    co_await migration.wake.wait();
  }
}

Task<Status> copy_pass(Migration& migration) {
  CopyEngine& engine = *migration.engine;
  const DirtyBitmap& dirty = *migration.sync->dirty;
  Status status;
  for (unsigned attempt = 0; attempt < kSourceAttempts; ++attempt) {
    if (migration.replica->trouble()) {
      const Status outlasted = co_await outlast_trouble(migration);
      if (!outlasted.ok()) co_return outlasted;
    }
    co_await record_phase(migration);
    const CopyStats before = engine.stats();
    const std::uint64_t dirty_before = dirty.dirty_bytes() + pending_bytes(migration);
    const std::uint64_t guest_before = migration.disk.guest_bytes_written();
    const std::uint64_t mirrored_before = mirrored_bytes(migration);
    const TimePoint begun = migration.loop.now();
    const std::uint64_t pauses = migration.pauses;
    const bool begun_paused = migration.waits();
    status = co_await engine.run_pass(std::nullopt);
    if (status.ok() && (begun_paused || migration.pauses != pauses)) {
      co_await wait_while_paused(migration);
      migration.postponed = 0;
      attempt = 0;
      continue;
    }
    const CopyStats& after = engine.stats();
    PassRecord record;
    // Holes say nothing about how fast data travels.
    const std::uint64_t holes = after.bytes_holes - before.bytes_holes;
    const std::uint64_t copied = after.bytes_copied - before.bytes_copied;
    record.copied_bytes = copied > holes ? copied - holes : 0;
    record.remaining_bytes = dirty.dirty_bytes();
    record.dirtied_bytes = record.remaining_bytes + pending_bytes(migration) +
                           (after.bytes_leased - before.bytes_leased) - dirty_before;
    record.guest_bytes = migration.disk.guest_bytes_written() - guest_before;
    record.mirrored_bytes = mirrored_bytes(migration) - mirrored_before;
    record.took = migration.loop.now() - begun;
    if (status.ok()) {
      if (migration.passes.empty()) migration.status.bytes_copied_first_pass = after.bytes_copied;
      migration.passes.push_back(record);
      if (record.copied_bytes == 0) co_await back_off(migration, 0);
      co_return status;
    }
    if (migration.replica->trouble() && is_trouble(status.error())) {
      attempt = 0;
      continue;
    }
    const bool asked_on = planted(PlantedBug::kLostSourceRetried) &&
                          status.error().code() == ErrorCode::kDisconnected;
    if (asked_on) attempt = 0;
    if (!is_transient(status.error()) && !asked_on) co_return status;
    if (record.copied_bytes > 0) attempt = 0;
    migration.status.error = status.error();
    co_await back_off(migration, attempt);
  }
  co_return status;
}

Judgement judge(Migration& migration, Duration fixed_cost) {
  ConvergenceLimits limits;
  limits.max_downtime = migration.options.max_downtime;
  limits.fixed_cost =
      fixed_cost + migration.options.max_downtime - longest_fence(migration.options);
  // Once the guest is held back, every pass without headway calls for the next step.
  if (migration.guest_rate_before_throttle != 0) limits.hopeless_passes = 1;
  limits.postponed = migration.postponed;
  std::vector<PassRecord>& passes = migration.passes;
  if (!passes.empty()) passes.back().remaining_bytes = migration.sync->dirty->dirty_bytes();
  const Judgement judgement = judge_convergence(passes, limits);
  migration.status.verdict = judgement.reason;
  migration.status.predicted_downtime_ms = to_milliseconds(judgement.predicted_downtime);
  // The rest is not what it waits for.
  if (judgement.verdict == Verdict::kReady && migration.slow_flushes != 0 &&
      flush_outlasts_fence(migration)) {
    migration.status.verdict = slow_flush_text(migration);
  }
  return judgement;
}

void note_decision(Migration& migration, std::string what, std::string why) {
  std::vector<Decision>& decisions = migration.status.decisions;
  const Duration at = migration.loop.now() - migration.begun;
  if (decisions.size() == kMaxDecisions) {
    decisions.erase(decisions.begin() + kMaxDecisions / 2);
    ++migration.status.decisions_dropped;
  }
  decisions.push_back({std::chrono::duration<double>(at).count(), std::move(what), std::move(why)});
}

std::uint64_t target_rate(const Migration& migration) {
  const PassRecord& last = migration.passes.back();
  const std::uint64_t taken = per_second(last.copied_bytes + last.mirrored_bytes, last.took);
  // A pass with little to do shows little.
  return std::max(taken, migration.replica->pace().bytes_per_second());
}

bool pace_guest(Migration& migration, const Judgement& judgement, unsigned& steps) {
  if (steps >= kPaceSteps) return false;
  ++steps;
  const std::uint64_t pace = std::max<std::uint64_t>(target_rate(migration) >> steps, 1);
  migration.mirror_pace = pace;
  limit_guest(migration);
  note_decision(migration, "writes paced to " + format_rate(pace) + " within the mirror's deadline",
                judgement.reason);
  // What was seen before this step says nothing about it.
  migration.passes.erase(migration.passes.begin(), migration.passes.end() - 1);
  return true;
}

void throttle_guest(Migration& migration) {
  if (migration.guest_rate_before_throttle == 0) {
    migration.guest_rate_before_throttle = guest_rate(migration.passes);
  }
  const std::uint64_t limit = next_guest_limit(
      migration.guest_limit, migration.guest_rate_before_throttle, target_rate(migration));
  if (limit != migration.guest_limit) {
    note_decision(migration, "guest's writes held to " + format_rate(limit),
                  migration.status.verdict);
  }
  migration.guest_limit = limit;
  limit_guest(migration);
}

Task<void> back_off(Migration& migration, unsigned attempt) {
  const TimePoint until = migration.loop.now() + kStoreBackOff.after(attempt);
  co_await migration.cancel.event().wait_until(until);
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/job.h"

#include <algorithm>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/prepare.h"
#include "blockmig/migrate/return_record.h"
#include "blockmig/migrate/settle.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

constexpr Duration kSampleInterval = std::chrono::milliseconds(100);

JobState outcome_of(const Status& result) {
  if (result.ok()) return JobState::kDone;
  return result.error().code() == ErrorCode::kCancelled ? JobState::kAborted : JobState::kFailed;
}

}  // namespace

Job::Job(EventLoop& loop, Journal& journal, BandwidthPool& bandwidth, Disk& disk,
         std::shared_ptr<TargetOpener> opener, std::string id, const JobOptions& options,
         std::string request, JobLeftovers& leftovers)
    : migration_(loop, disk, journal, bandwidth, options),
      leftovers_(leftovers),
      begun_(loop),
      ended_(loop),
      stop_sampling_(loop),
      record_soon_(loop),
      guest_(disk, options) {
  migration_.request = std::move(request);
  migration_.opener = std::move(opener);
  JobStatus& status = migration_.status;
  status.id = std::move(id);
  status.disk = disk.name();
  status.mode = status.active_mode = options.mode;
  status.source_uri = disk.store_uri();
  status.target_uri = migration_.opener->uri();
  status.point_in_time = options.point_in_time;
  status.since_bitmap = options.since_bitmap;
  status.epoch = disk.epoch();
  status.attempt = 1;
  status.size_bytes = disk.info().size_bytes;
}

Job::Job(EventLoop& loop, Journal& journal, BandwidthPool& bandwidth, Disk& disk,
         HydratingDevice& hydrating, const JobOptions& options, std::string request,
         JobLeftovers& leftovers)
    : migration_(loop, disk, journal, bandwidth, options),
      leftovers_(leftovers),
      begun_(loop),
      ended_(loop),
      stop_sampling_(loop),
      record_soon_(loop),
      guest_(disk, options) {
  migration_.request = std::move(request);
  const HydrationRecord& record = hydrating.record();
  JobStatus& status = migration_.status;
  status.id = record.job;
  status.disk = disk.name();
  status.mode = options.mode;
  status.active_mode = Mode::kPostcopy;
  status.source_uri = record.base_uri;
  status.target_uri = disk.store_uri();
  status.epoch = disk.epoch();
  status.attempt = 1;
  status.size_bytes = disk.info().size_bytes;
  status.bytes_total = hydrating.map().absent_bytes();
  migration_.hydrating = &hydrating;
  migration_.decided = true;
}

Job::~Job() { BM_CHECK((!migration_.engine || ended()) && kept_.empty()); }

void Job::go_on(RecoveredTracking recovered, const JobRecord& record) {
  migration_.recovered = std::move(recovered);
  // The record is in chunks of the size that it was made with.
  if (!migration_.recovered.empty()) {
    migration_.options.granularity_bytes = migration_.recovered.dirty->granularity_bytes();
  }
  migration_.status.attempt = record.attempt + 1;
  migration_.status.interrupted_in = record.phase;
}

void Job::begin_paused(std::string because) {
  migration_.paused_by_user = true;
  migration_.pause_asked_by = std::move(because);
  show_pause(migration_);
}

Task<void> Job::run() {
  TaskScope sampler;
  auto sampling = sample();
  sampler.spawn(std::move(sampling));
  auto recording = record_progress();
  sampler.spawn(std::move(recording));
  const Status result = co_await migrate();
  over_ = true;
  take_sample();
  // What has ended by itself meanwhile has ended.
  migration_.suspended = migration_.suspended && outcome_of(result) == JobState::kAborted;
  co_await clean_up(result);
  stop_sampling_.set();
  record_soon_.pulse();
  co_await sampler.join();
  migration_.share.release();
  ended_at_ = migration_.loop.now();
  guest_.ended();
  // Recorded first, shown then: who sees a final state may start the next move.
  const std::string state(to_string(outcome_of(result)));
  // A pause that an operator asked for is his also after a restart.
  Status recorded;
  if (!migration_.suspended) {
    recorded = co_await record(state);
  } else if (migration_.paused_by_user) {
    const std::string waits(to_string(JobState::kPaused));
    recorded = co_await record(waits);
  }
  finish(result);
  if (!recorded.ok() && !migration_.status.error) migration_.status.error = recorded.error();
  begun_.set();
  ended_.set();
}

Task<Status> Job::migrate() {
  const std::string state(to_string(migration_.status.state));
  const Status recorded = co_await record(state);
  if (recorded.ok()) begun_.set();
  if (migration_.hydrating != nullptr) {
    const Status hydrated = co_await run_hydration(migration_);
    co_return hydrated;
  }
  if (!recorded.ok()) co_return recorded;
  auto target = co_await reach_target(migration_, migration_.opener, leftovers_.tasks);
  if (!target.ok()) co_return target.error();
  Status fit = check_fits(migration_.disk.info(), (*target)->info());
  auto device = std::move(*target);
  for (const BlockDevice* const store : {&migration_.disk.store(), device.get()}) {
    if (fit.ok()) fit = check_chunks(store->info(), migration_.options.granularity_bytes);
  }
  if (fit.ok()) {
    const Status compared = co_await compare_target(migration_);
    fit = compared;
  }
  if (fit.ok() && migration_.options.mode == Mode::kSettle) {
    fit = co_await begin_settling(migration_, device);
  }
  if (!fit.ok()) {
    co_await migration_.opener->discard();
    const Status closed = co_await device->close();
    static_cast<void>(closed);
    co_return fit;
  }
  device->prefer_latency(false);
  if (migration_.options.mode == Mode::kShared) {
    migration_.at_rest = migration_.opener->data_at_rest();
  }
  const Status armed = co_await arm_and_scan(migration_, std::move(device));
  if (!armed.ok()) co_return armed;
  set_pace();
  if (migration_.waits()) migration_.engine->pause();
  const Status moved = co_await run_mode(migration_);
  co_return moved;
}

Task<void> Job::clean_up(const Status& result) {
  Migration& m = migration_;
  BM_CHECK(result.ok() ? m.decided || m.keep_target : !m.decided || m.interrupt.is_set());
  if (!m.decided) {
    m.disk.set_mirror(nullptr);
    m.disk.tracking().detach_job(m.sync ? m.sync->dirty.get() : m.recovered.dirty.get());
    if (m.replica && !m.keep_target) m.replica->abandon();
  }
  m.guest_limit = 0;
  m.disk.write_throttle().set_rate(0);
  if (m.disk.write_throttle().held()) m.disk.write_throttle().let_go();
  // Where the owner is unknown, nothing is to be said about it.
  const bool stays = !m.decided && m.disk.gate().state() != Gate::State::kShut;
  if (m.pivot && stays) co_await withdraw_pivot(m);
  if (m.opener && stays) {
    co_await m.opener->withdraw_switch();
    co_await settle_return_record(m);
  }
  if (m.opener && m.keep_target) co_await m.opener->keep();
  co_await end_tracking();
  if (m.engine) co_await m.engine->join();
  if (m.mirror) co_await m.mirror->wait_empty();
  BM_CHECK(!m.generation);
  capture(m.status);
  m.checkpoint.reset();
  m.mirror.reset();
  m.engine.reset();
  if (m.replica) leave_target();
  if (m.at_rest != nullptr) co_await m.at_rest->discard();
  m.replica.reset();
  m.sync.reset();
  m.hydrating = nullptr;
  if (m.old_store) leave_old_store();
}

void Job::leave_old_store() {
  Migration& m = migration_;
  BlockDevice* const store = m.old_store.get();
  const auto* const layer = dynamic_cast<HydratingDevice*>(store);
  const std::string uri = layer != nullptr ? layer->record().base_uri : m.status.source_uri;
  auto entry = std::make_unique<Unanswered::Entry>(leftovers_.unanswered,
                                                   Unanswered::Place{id(), disk_name(), uri},
                                                   [store] { store->abandon(); });
  leftovers_.tasks.spawn(close_old_store(std::move(m.old_store), std::move(entry)));
}

void Job::leave_target() {
  Migration& m = migration_;
  m.replica->forget_losses();
  // A restart may find that the disk lives there (I3, I7).
  const bool may_own = m.status.owner_unknown && !planted(PlantedBug::kUnknownOwnerDiscarded);
  const bool stays = m.keep_target || m.suspended || may_own;
  if (!stays && m.decided) return;
  const Unanswered::Place place{id(), disk_name(), m.status.target_uri};
  Replica* const replica = m.replica.get();
  auto entry = std::make_unique<Unanswered::Entry>(leftovers_.unanswered, place,
                                                   [replica] { replica->cut(); });
  auto task = stays ? close_copy(std::move(m.replica), std::move(entry))
                    : let_go(std::move(m.replica), m.opener, std::move(entry));
  leftovers_.tasks.spawn(std::move(task));
}

Task<void> Job::end_tracking() {
  Migration& m = migration_;
  if (m.checkpoint) kept_ = co_await m.checkpoint->detach(m.suspended);
  auto unused = std::move(m.recovered);
  if (unused.empty()) co_return;
  bool stays = m.suspended;
  if (!stays) {
    const Status forgotten = co_await forget(m.journal, disk_name(), id());
    stays = !forgotten.ok();
  }
  if (stays) {
    kept_ = std::move(unused);
  } else {
    co_await discard(m.disk, std::move(unused));
  }
}

Task<void> Job::leave_disk() {
  auto kept = std::move(kept_);
  co_await discard(migration_.disk, std::move(kept));
}

void Job::finish(const Status& result) {
  JobStatus& status = migration_.status;
  enter_phase(status.phase, Phase::kEnded);
  migration_.paused_by_user = migration_.held = false;
  show_pause(migration_);
  enter_state(status.state, outcome_of(result));
  status.error.reset();
  status.suspended = migration_.suspended;
  if (status.suspended) {
    status.error = Error(ErrorCode::kShutdown,
                         "its daemon ended before the switchover: a restart goes on with it");
  } else if (!result.ok()) {
    status.error = result.error();
  }
}

Task<Status> Job::record(const std::string& state) {
  JournalBatch batch;
  batch.jobs.push_back(record_of_job(migration_, state));
  bool ends = true;
  for (const JobState running : {JobState::kRunning, JobState::kPaused}) {
    if (state == to_string(running)) ends = false;
  }
  if (ends) batch.removed_sets = records_of(disk_name(), id());
  const Status saved = co_await migration_.journal.commit(batch);
  if (saved.ok()) migration_.recorded_phase = migration_.status.phase;
  co_return saved;
}

Status Job::abort() {
  if (is_final(migration_.status.state) || migration_.decided || migration_.deciding) {
    return Error(ErrorCode::kPrecondition,
                 id() + " cannot be aborted: it is " +
                     (migration_.hydrating != nullptr
                          ? "hydrating, the disk runs on the target already: " +
                                ways_on(disk_name(), migration_.hydrating->record().base_uri)
                      : migration_.deciding ? "past its decision"
                                            : std::string(to_string(migration_.status.state))));
  }
  migration_.cancel.cancel();
  if (migration_.replica) migration_.replica->abandon();
  return {};
}

Status Job::suspend() {
  if (over_ || migration_.cancel.cancelled()) {
    return Error(ErrorCode::kPrecondition, id() + " is ending already");
  }
  const Status aborted = abort();
  if (aborted.ok()) migration_.suspended = true;
  return aborted;
}

Status Job::pause() {
  if (is_final(migration_.status.state) || migration_.paused_by_user) {
    return Error(ErrorCode::kPrecondition, id() + " cannot be paused: it is " +
                                               std::string(to_string(migration_.status.state)));
  }
  if (migration_.deciding && migration_.hydrating == nullptr) {
    return Error(ErrorCode::kPrecondition, id() + " cannot be paused: it is past its decision");
  }
  // A job that its target holds up stays so when the target works again.
  migration_.paused_by_user = true;
  ++migration_.pauses;
  migration_.pause_asked_by = "an operator asked for it";
  show_pause(migration_);
  migration_.wake.pulse();
  if (migration_.engine) migration_.engine->pause();
  return {};
}

Status Job::resume() {
  if (migration_.status.state != JobState::kPaused) {
    return Error(ErrorCode::kPrecondition, id() + " cannot be resumed: it is " +
                                               std::string(to_string(migration_.status.state)));
  }
  // What held it up is tried at once.
  migration_.paused_by_user = false;
  migration_.held = false;
  show_pause(migration_);
  migration_.wake.pulse();
  if (migration_.engine && !migration_.waits()) migration_.engine->resume();
  return {};
}

Status Job::change(const JobChange& change) {
  if (is_final(migration_.status.state)) {
    return Error(ErrorCode::kPrecondition, id() + " has ended");
  }
  if (change.max_downtime && *change.max_downtime <= Duration::zero()) {
    return Error(ErrorCode::kInvalid, "--max-downtime must be longer than zero");
  }
  change.apply_to(migration_.options);
  if (change.max_downtime) migration_.wake.pulse();
  migration_.share.set_priority(migration_.options.priority);
  set_pace();
  return {};
}

void Job::set_pace() {
  const std::uint64_t rate = guest_.rate(migration_.options.bwlimit_bytes_per_second);
  if (migration_.push_rate) migration_.push_rate->set_rate(rate);
  if (!migration_.engine) return;
  migration_.engine->rate_limit().set_rate(rate);
  migration_.engine->set_depth(guest_.depth());
}

Task<void> Job::sample() {
  while (!stop_sampling_.is_set()) {
    const TimePoint next = migration_.loop.now() + kSampleInterval;
    co_await stop_sampling_.wait_until(next);
    if (!stop_sampling_.is_set()) take_sample();
  }
}

void Job::take_sample() {
  Migration& m = migration_;
  if (guest_.sample(rate_now())) set_pace();
  if (guest_.take_helpless()) {
    note_decision(m, "guest latency",
                  "its p99 stays above " + format_duration(m.options.max_guest_latency) +
                      " with the copier at its slowest: it is not the copier");
  }
  const TimePoint now = m.loop.now();
  if (m.hydrating != nullptr) {
    capture_hydration(m, m.status);
    hydrated_rate_.sample(now, m.status.bytes_hydrated);
    return;
  }
  if (!m.engine || !m.sync) return;
  note_fallback();
  const CopyStats& copy = m.engine->stats();
  copied_rate_.sample(now, copy.bytes_copied);
  dirtied_rate_.sample(now, m.sync->dirty->dirty_bytes() + pending_bytes(m) + copy.bytes_leased);
}

}  // namespace blockmig

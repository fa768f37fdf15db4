// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/checkpoint.h"

#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/planted.h"
#include "blockmig/disk/region_snapshot.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {
namespace {

using Recorded = DirtyTracking::Recorded;

RegionSetId bitmap_set(const std::string& disk, const std::string& job) {
  return {disk, "job/" + job};
}
RegionSetId active_set(const std::string& disk, const std::string& job) {
  return {disk, "job/" + job + "/active"};
}

/// Nobody writes by the log any more when this returns.
Task<void> take_off(Disk& disk, ActivityLog& log) {
  if (disk.tracking().log(Recorded::kJob) == &log) {
    disk.tracking().set_log(Recorded::kJob, nullptr);
  }
  co_await disk.tracking().quiesce(disk.gate());
  while (log.in_use()) co_await log.committed().wait();
}

}  // namespace

std::vector<RegionSetId> records_of(const std::string& disk, const std::string& job) {
  return {bitmap_set(disk, job), active_set(disk, job)};
}

JobCheckpoint::JobCheckpoint(Migration& migration, RecoveredTracking recovered)
    : migration_(migration),
      log_(std::move(recovered.log)),
      recorded_(std::move(recovered.recorded)),
      changed_(migration.loop) {}

JobCheckpoint::~JobCheckpoint() { BM_CHECK(!armed_ && !running_); }

void JobCheckpoint::arm() {
  armed_ = true;
  if (log_ != nullptr) return;  // recovered: it is attached already
  const JobStatus& status = migration_.status;
  auto& digests = migration_.sync->digests;
  if (digests && knows_all_digests(migration_.options)) {
    digests_ = std::make_unique<DigestRecord>(bitmap_set(status.disk, status.id), *digests);
    digests_->begin_anew();
  }
  log_ = std::make_unique<ActivityLog>(migration_.loop, migration_.journal,
                                       active_set(status.disk, status.id), status.size_bytes,
                                       migration_.options.activity_region_bytes);
  log_->activate_all();
  migration_.disk.tracking().set_log(Recorded::kJob, log_.get());
}

Task<void> JobCheckpoint::recall() {
  const JobStatus& status = migration_.status;
  auto& digests = migration_.sync->digests;
  // Nobody would keep what is recorded true.
  anew_ = !digests || !knows_all_digests(migration_.options);
  if (anew_) co_return;
  auto record = std::make_unique<DigestRecord>(bitmap_set(status.disk, status.id), *digests);
  const Status known =
      co_await record->recall(migration_.loop, migration_.journal, *migration_.sync->dirty);
  anew_ = !known.ok();
  if (anew_) note_decision(migration_, "digests are taken anew", known.error().message());
  digests_ = std::move(record);
}

Task<void> JobCheckpoint::hold() {
  held_ = true;
  while (running_) co_await changed_.wait();
}

void JobCheckpoint::release() { held_ = false; }

Task<RecoveredTracking> JobCheckpoint::detach(bool keep_record) {
  RecoveredTracking left;
  if (!armed_) co_return std::move(left);
  co_await hold();
  armed_ = false;
  bool stays = keep_record && !planted(PlantedBug::kLogGoesBeforeRecord);
  if (!migration_.decided && !keep_record) {
    const Status forgotten =
        co_await forget(migration_.journal, migration_.status.disk, migration_.status.id);
    stays = !forgotten.ok() && !planted(PlantedBug::kLogGoesBeforeRecord);
  }
  if (stays) {
    left.log = std::move(log_);
  } else {
    co_await take_off(migration_.disk, *log_);
  }
  co_return std::move(left);
}

Task<Status> JobCheckpoint::run_once() {
  if (!armed_ || held_ || running_ || migration_.replica->trouble()) co_return Status();
  const bool records = !log_->abandoned() && migration_.journal.health().ok();
  if (!records && !planted(PlantedBug::kRetiresAfterJournal)) co_return Status();
  running_ = true;
  const Status done = co_await checkpoint();
  running_ = false;
  changed_.pulse();
  co_return done;
}

RegionSetRecord JobCheckpoint::record() const {
  RegionSetRecord record;
  const RegionSetId set = bitmap_set(migration_.status.disk, migration_.status.id);
  record.disk = set.disk;
  record.name = set.name;
  record.kind = "job";
  record.size_bytes = migration_.status.size_bytes;
  record.granularity_bytes = migration_.sync->dirty->granularity_bytes();
  record.tag = migration_.disk.epoch();
  if (migration_.opener) record.note = migration_.opener->identity();
  return record;
}

/// What is not dirty and not equal either: what a generation has still to copy, what stays at rest,
/// and what is being copied, before that has worked. All of one instant with what is dirty: chunks
/// change from one to another at any time.
void JobCheckpoint::add_different(std::uint32_t first, std::uint32_t end, DirtyFilter& now) const {
  const auto add = [first, end, &now](const DirtyBitmap& others) {
    for (std::uint32_t index = first; index < end; ++index) others.merge_block_to(index, now);
  };
  const Generation* const generation = migration_.generation.get();
  if (generation != nullptr && !planted(PlantedBug::kPendingNotRecorded)) add(generation->chunks());
  const DirtyBitmap* const rest = migration_.sync->rest.get();
  if (rest != nullptr && !planted(PlantedBug::kRestNotRecorded)) add(*rest);
  for (const std::uint32_t chunk : migration_.sync->ledger.busy()) now.set(chunk);
}

Task<Status> JobCheckpoint::checkpoint() {
  DirtyBitmap& dirty = *migration_.sync->dirty;
  const std::uint64_t losses = migration_.replica->losses();
  log_->begin_retire(false);
  if (!planted(PlantedBug::kRetireWithoutQuiesce)) {
    co_await migration_.disk.tracking().quiesce(migration_.disk.gate());
  }
  JournalBatch early;
  if (digests_ && planted(PlantedBug::kDigestsBeforeMarks)) {
    co_await digests_->add_change(migration_.loop, early);
    co_await sleep_for(migration_.loop, std::chrono::milliseconds(20));
  }
  auto now = std::make_unique<DirtyFilter>(dirty.chunk_count());
  const auto add_others = [this, &now](std::uint32_t first, std::uint32_t end) {
    add_different(first, end, *now);
  };
  co_await copy_dirty(migration_.loop, dirty, *now, add_others);
  Status settled = co_await settle();
  if (settled.ok() && migration_.replica->losses() != losses) {
    // A flush that works after a loss does not cover what was lost.
    settled = Error(ErrorCode::kDisconnected, "the target lost what it had not made durable");
  }
  if (!settled.ok()) {
    log_->cancel_retire();
    co_return settled;
  }
  if (planted(PlantedBug::kCleanBeforeTargetFlush)) {
    co_await copy_dirty(migration_.loop, dirty, *now, add_others);
  }
  JournalBatch batch;
  co_await add_marks(batch, *now);
  if (digests_ && !planted(PlantedBug::kDigestsBeforeMarks)) {
    co_await digests_->add_change(migration_.loop, batch);
  }
  for (DigestChange& change : early.digests) batch.digests.push_back(std::move(change));
  const Phase phase = migration_.status.phase;
  const bool moved_on = !phase_is_recorded(migration_);
  if (moved_on) batch.jobs.push_back(record_of_phase(migration_));
  recorded_.reset();  // until it is known to be there
  const Status committed = co_await log_->commit(std::move(batch));
  if (!committed.ok()) co_return committed;
  recorded_ = std::move(now);
  if (moved_on) migration_.recorded_phase = phase;
  ++checkpoints_;
  co_return Status();
}

/// The bitmap as it was at `now`; where it is not known what the journal holds, all of it.
Task<void> JobCheckpoint::add_marks(JournalBatch& batch, const DirtyFilter& now) {
  const RegionSetRecord description = record();
  const RegionSetId set{description.disk, description.name};
  const DirtyFilter nothing(now.chunk_count());
  if (std::exchange(anew_, false)) recorded_.reset();
  if (recorded_ == nullptr) {
    batch.removed_sets.push_back(set);
    batch.sets.push_back(description);
    if (digests_) digests_->begin_anew();
  }
  co_await add_change_in_turns(migration_.loop, batch, recorded_ != nullptr ? *recorded_ : nothing,
                               now, set);
}

/// Makes durable, on both sides, what is equal now.
Task<Status> JobCheckpoint::settle() {
  if (!planted(PlantedBug::kCleanBeforeSourceFlush)) {
    const Status source = co_await migration_.disk.store().flush();
    if (!source.ok()) co_return source.error().with_context("flushing the source");
  }
  if (planted(PlantedBug::kCleanBeforeTargetFlush)) co_return Status();
  // It may have failed meanwhile, and is left alone until it has been revived.
  if (migration_.replica->trouble()) co_return *migration_.replica->trouble();
  auto op = std::make_shared<TargetOp>(migration_.loop, TargetOpKind::kFlush);
  const TimePoint deadline = migration_.loop.now() + migration_.options.target_timeout;
  const Status target = co_await migration_.replica->perform(op, deadline);
  if (!target.ok()) co_return target.error().with_context("flushing the target");
  co_return Status();
}

namespace {

struct Found {
  std::optional<RegionSetRecord> bitmap;
  std::optional<RegionSetRecord> active;
};

Task<Result<Found>> find_sets(Journal& journal, const std::string& disk, const std::string& job) {
  const auto sets = co_await journal.load_sets(disk);
  if (!sets.ok()) co_return sets.error();
  Found found;
  for (const RegionSetRecord& set : *sets) {
    if (set.name == bitmap_set(disk, job).name) found.bitmap = set;
    if (set.name == active_set(disk, job).name) found.active = set;
  }
  co_return found;
}

}  // namespace

Task<Result<RecoveredTracking>> recover(Journal& journal, Disk& disk, std::string job,
                                        EventLoop& loop) {
  const std::string name = disk.name();
  const std::uint64_t size = disk.info().size_bytes;
  const auto found = co_await find_sets(journal, name, job);
  if (!found.ok()) co_return found.error();
  if (!found->bitmap || !found->active || found->bitmap->tag != disk.epoch() ||
      found->bitmap->size_bytes != size || found->active->size_bytes != size) {
    co_return RecoveredTracking();
  }
  const RegionSetId bitmap_id = bitmap_set(name, job);
  const RegionSetId active_id = active_set(name, job);
  const auto chunks = co_await journal.load_regions(bitmap_id.disk, bitmap_id.name);
  if (!chunks.ok()) co_return chunks.error();
  const auto regions = co_await journal.load_regions(active_id.disk, active_id.name);
  if (!regions.ok()) co_return regions.error();

  RecoveredTracking tracking;
  auto dirty = DirtyBitmap::create(size, found->bitmap->granularity_bytes);
  if (!dirty.ok()) co_return dirty.error();
  DirtyBitmap& bitmap = **dirty;
  tracking.log = std::make_unique<ActivityLog>(loop, journal, active_id, size,
                                               found->active->granularity_bytes);
  const std::uint64_t granularity = bitmap.granularity_bytes();
  tracking.recorded = std::make_unique<DirtyFilter>(bitmap.chunk_count());
  const auto mark = [&bitmap, size](std::uint64_t first, std::uint64_t end, std::uint64_t unit) {
    const std::uint64_t until = std::min(end * unit, size);
    bitmap.mark(first * unit, until - first * unit);
  };
  const Status marked =
      for_each_run(*chunks, bitmap.chunk_count(), [&](std::uint64_t first, std::uint64_t end) {
        mark(first, end, granularity);
        tracking.recorded->set_range(first, end);
      });
  if (!marked.ok()) co_return marked.error();
  const std::uint64_t region_bytes = tracking.log->region_bytes();
  const Status active_marked =
      for_each_run(*regions, tracking.log->region_count(),
                   [&](std::uint64_t first, std::uint64_t end) { mark(first, end, region_bytes); });
  if (!active_marked.ok()) co_return active_marked.error();
  const Status loaded = tracking.log->load(*regions);
  if (!loaded.ok()) co_return loaded.error();
  tracking.dirty = std::move(*dirty);
  tracking.target_identity = found->bitmap->note;
  disk.tracking().attach_job(*tracking.dirty);
  disk.tracking().set_log(Recorded::kJob, tracking.log.get());
  co_return tracking;
}

Task<Status> forget(Journal& journal, std::string disk, std::string job) {
  JournalBatch batch;
  batch.removed_sets = records_of(disk, job);
  const Status removed = co_await journal.commit(batch);
  if (removed.ok()) co_return removed;
  const Status distrusted = co_await journal.distrust_sets();
  co_return distrusted;
}

Task<void> discard(Disk& disk, RecoveredTracking tracking) {
  if (tracking.empty()) co_return;
  co_await take_off(disk, *tracking.log);
  disk.tracking().detach_job(tracking.dirty.get());
}

}  // namespace blockmig

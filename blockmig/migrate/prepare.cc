// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/prepare.h"

#include <functional>
#include <string>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/disk/bitmap_keeper.h"
#include "blockmig/migrate/return_record.h"
#include "blockmig/migrate/settle.h"

namespace blockmig {
namespace {

constexpr std::size_t kMaxRuns = 1024;

struct Opening {
  explicit Opening(EventLoop& loop) : changed(loop) {}
  Event changed;
  std::optional<Result<std::unique_ptr<BlockDevice>>> result;
  bool given_up = false;
};

Task<void> open_into(std::shared_ptr<Opening> opening, std::shared_ptr<TargetOpener> opener,
                     std::uint64_t size_bytes) {
  auto result = co_await opener->open(size_bytes);
  if (!opening->given_up) {
    opening->result = std::move(result);
    opening->changed.set();
    co_return;
  }
  if (!result.ok()) co_return;
  const std::unique_ptr<BlockDevice> late = std::move(*result);
  co_await opener->discard();
  const Status closed = co_await late->close();
  static_cast<void>(closed);  // nobody is left to tell; the job ended as aborted
}

using Ask = std::function<Task<Result<std::vector<Extent>>>(std::uint64_t, std::uint64_t)>;

/// Calls `visit` for every extent that `ask` tells of, in order.
Task<Status> for_each_told(Migration& migration, const Ask& ask, std::uint64_t size_bytes,
                           const std::function<void(const Extent&)>& visit) {
  std::uint64_t offset = 0;
  while (offset < size_bytes) {
    if (migration.cancel.cancelled()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
    const auto extents = co_await ask(offset, size_bytes - offset);
    if (!extents.ok()) co_return extents.error();
    for (const Extent& extent : *extents) {
      visit(extent);
      offset = extent.offset + extent.length;
    }
  }
  co_return Status();
}

/// For every extent of the device.
Task<Status> for_each_extent(Migration& migration, BlockDevice& device, std::uint64_t size_bytes,
                             const std::function<void(const Extent&)>& visit) {
  const Ask ask = [&device](std::uint64_t offset, std::uint64_t length) {
    return device.extents(offset, length);
  };
  const Status told = co_await for_each_told(migration, ask, size_bytes, visit);
  co_return told;
}

/// Which chunks of the target may hold something: a target that is not known to be zero is asked,
/// and taken at its word only for extents that it calls zero (trap 9).
Task<Status> find_written(Migration& migration) {
  Replica& replica = *migration.replica;
  DirtyBitmap& written = *migration.sync->written;
  if (replica.info().zero_initialised) co_return Status();
  // What it shows may be the rest of an earlier move whose flush failed, and not be there (I11).
  auto flush = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kFlush);
  const TimePoint deadline = migration.loop.now() + migration.options.target_timeout;
  const Status durable = co_await replica.perform(flush, deadline);
  if (!durable.ok() && durable.error().code() == ErrorCode::kCancelled) co_return durable;
  if (!durable.ok() && durable.error().code() == ErrorCode::kNotSupported) {
    co_return durable.error().with_context("not a target");  // it would fail at its end
  }
  if (!durable.ok()) {
    written.mark_all();
    co_return Status();  // a pass sees to its trouble
  }
  const std::function<void(const Extent&)> visit = [&](const Extent& extent) {
    if (!extent.zero) written.mark(extent.offset, extent.length);
  };
  const Ask ask = [&replica](std::uint64_t offset, std::uint64_t length) {
    return replica.extents(offset, length);
  };
  const Status scanned = co_await for_each_told(migration, ask, written.size_bytes(), visit);
  if (scanned.ok()) co_return scanned;
  if (scanned.error().code() == ErrorCode::kCancelled) co_return scanned;
  written.mark_all();  // it cannot say: assume the worst
  co_return Status();
}

/// Zeros at the source must become zeros at the target wherever it may hold something else.
void mark_where_written(SyncState& sync, ByteRange zeros) {
  for (std::uint64_t at = zeros.offset; at < zeros.end();) {
    for (const auto& run : sync.written->runs(at, zeros.end() - at, kMaxRuns)) {
      at = run.range.end();
      if (run.dirty) sync.dirty->mark(run.range.offset, run.range.length);
    }
  }
}

/// Of what the source calls zero the chunks that are zero as a whole.
void note_hole(SyncState& sync, ByteRange zeros) {
  const std::uint64_t granularity = sync.holes->granularity_bytes();
  const std::uint64_t begin = align_up(zeros.offset, granularity);
  const bool last = zeros.end() == sync.holes->size_bytes();
  const std::uint64_t end = last ? zeros.end() : align_down(zeros.end(), granularity);
  if (begin < end) sync.holes->mark(begin, end - begin);
}

/// Where the target may hold something, the source's holes are noted: by the scan of what is
/// allocated, or here, where what is dirty is known from an earlier life.
Task<Status> prepare_holes(Migration& migration, bool resumed) {
  SyncState& sync = *migration.sync;
  if (sync.written->dirty_count() == 0) co_return Status();
  auto holes = DirtyBitmap::create(sync.dirty->size_bytes(), sync.dirty->granularity_bytes());
  if (!holes.ok()) co_return holes.error();
  sync.holes = std::move(*holes);
  if (!resumed) co_return Status();
  const std::function<void(const Extent&)> visit = [&](const Extent& extent) {
    if (extent.zero) note_hole(sync, {extent.offset, extent.length});
  };
  const Status scanned =
      co_await for_each_extent(migration, migration.disk.store(), sync.dirty->size_bytes(), visit);
  if (scanned.ok() || scanned.error().code() == ErrorCode::kCancelled) co_return scanned;
  co_return Status();
}

/// This life has not hashed what an earlier one, or an earlier move, has made equal: what no record
/// has a digest of is read after the decision, as far as it is allocated. What is a hole now, and
/// written later, is copied and hashed.
Task<Status> forget_digests(Migration& migration) {
  SyncState& sync = *migration.sync;
  if (!sync.digests) co_return Status();
  const std::function<void(const Extent&)> visit = [&sync](const Extent& extent) {
    if (!extent.zero) sync.digests->invalidate(extent.offset, extent.length);
  };
  const Status scanned =
      co_await for_each_extent(migration, migration.disk.store(), sync.dirty->size_bytes(), visit);
  if (!scanned.ok() && scanned.error().code() != ErrorCode::kCancelled) {
    sync.digests->invalidate(0, sync.dirty->size_bytes());
    co_return Status();
  }
  co_return scanned;
}

/// What the source has there, and must be there at the target.
void take_extent(SyncState& sync, ByteRange range, bool zero) {
  if (!zero) {
    sync.dirty->mark(range.offset, range.length);
    return;
  }
  mark_where_written(sync, range);
  if (sync.holes) note_hole(sync, range);
}

/// Of a disk that settles only what its own store has: the rest is what the target holds.
void mark_everything(Migration& migration) {
  DirtyBitmap& dirty = *migration.sync->dirty;
  const HydratingDevice* const layer = migration.settling.layer;
  if (layer == nullptr) return dirty.mark_all();
  for (const DirtyBitmap::Run& run : layer->map().runs({0, dirty.size_bytes()}, SIZE_MAX)) {
    if (!run.dirty) dirty.mark(run.range.offset, run.range.length);
  }
}

/// Likewise. A chunk that a write makes present meanwhile is marked by that write.
Task<Status> find_allocated(Migration& migration) {
  SyncState& sync = *migration.sync;
  const HydratingDevice* const layer = migration.settling.layer;
  const std::function<void(const Extent&)> visit = [&](const Extent& extent) {
    const ByteRange whole{extent.offset, extent.length};
    if (layer == nullptr) return take_extent(sync, whole, extent.zero);
    for (const DirtyBitmap::Run& run : layer->map().runs(whole, SIZE_MAX)) {
      if (!run.dirty) take_extent(sync, run.range, extent.zero);
    }
  };
  const Status scanned =
      co_await for_each_extent(migration, migration.disk.store(), sync.dirty->size_bytes(), visit);
  if (!scanned.ok() && scanned.error().code() != ErrorCode::kCancelled) {
    mark_everything(migration);  // the source cannot say what is allocated: everything is
    co_return Status();
  }
  co_return scanned;
}

/// The bitmap's marks together with what is written from now on, which the job's bitmap gets by
/// itself: whatever the instant will be, that is all in which the target differs then (I5). The
/// named bitmap keeps its marks, so a failure has nothing to give back.
Status take_marks(Migration& migration) {
  const std::string& name = migration.options.since_bitmap;
  const DirtyBitmap* const marks = migration.disk.tracking().find(name);
  if (marks == nullptr) return no_such_bitmap(migration.disk.name(), name);
  migration.sync->dirty->merge(*marks);
  if (planted(PlantedBug::kSinceArmedLate)) {
    migration.disk.tracking().detach_job(migration.sync->dirty.get());
  }
  return {};
}

/// What is to be copied: everything that is allocated; of a disk that returns what has changed
/// since it left, and then nothing is known of the chunks in between; of a backup since a bitmap
/// what that marks. With the job's bitmap attached (I17).
Task<Status> find_different(Migration& migration) {
  SyncState& sync = *migration.sync;
  if (!migration.options.since_bitmap.empty()) co_return take_marks(migration);
  if (migration.options.mode == Mode::kReturn) {
    const Status forgotten = co_await forget_digests(migration);
    if (!forgotten.ok()) co_return forgotten;
    co_return mark_changes(migration, *sync.dirty);
  }
  const Status found = co_await find_allocated(migration);
  co_return found;
}

}  // namespace

Task<Result<std::unique_ptr<BlockDevice>>> open_target(Migration& migration,
                                                       std::shared_ptr<TargetOpener> opener,
                                                       TaskScope& leftovers) {
  auto opening = std::make_shared<Opening>(migration.loop);
  const CancelSource::Callback wake(migration.cancel, [opening] { opening->changed.set(); });
  auto task = open_into(opening, opener, migration.disk.info().size_bytes);
  leftovers.spawn(std::move(task));
  co_await opening->changed.wait();
  if (!opening->result) {
    opening->given_up = true;
    opener->give_up();
    co_return Error(ErrorCode::kCancelled, "the job was aborted");
  }
  co_return std::move(*opening->result);
}

Status check_fits(const DeviceInfo& source, const DeviceInfo& target) {
  if (target.read_only) {
    return Error(ErrorCode::kReadOnly, "target " + target.name + " is read-only");
  }
  if (target.size_bytes < source.size_bytes) {
    return Error(ErrorCode::kPrecondition, "target " + target.name + " is too small: it has " +
                                               std::to_string(target.size_bytes) + " bytes, disk " +
                                               source.name + " has " +
                                               std::to_string(source.size_bytes));
  }
  if (target.min_io_bytes > source.min_io_bytes) {
    return Error(ErrorCode::kPrecondition,
                 "target " + target.name + " takes only requests aligned to " +
                     std::to_string(target.min_io_bytes) + " bytes, the clients of disk " +
                     source.name + " were promised " + std::to_string(source.min_io_bytes));
  }
  return {};
}

Status check_chunks(const DeviceInfo& store, std::uint32_t granularity_bytes) {
  if (store.min_io_bytes <= granularity_bytes) return {};
  return Error(ErrorCode::kPrecondition,
               store.name + " takes whole blocks of " + format_bytes(store.min_io_bytes) +
                   " only, and the disk is tracked in chunks of " +
                   format_bytes(granularity_bytes) + ": migrate with --granularity " +
                   std::to_string(store.min_io_bytes / kKiB) + "KiB or more");
}

Task<Status> compare_target(Migration& migration) {
  if (!migration.opener) co_return Status();
  TargetOpener& opener = *migration.opener;
  if (migration.options.mode == Mode::kReturn && !opener.as_left()) {
    co_return Error(ErrorCode::kPrecondition,
                    "somebody may have changed " + opener.uri() +
                        " while no daemon had it: move the disk there with another mode");
  }
  RecoveredTracking& found = migration.recovered;
  const bool same =
      opener.as_left() && opener.guarded() && found.target_identity == opener.identity();
  if (!found.empty() && !same) {
    const Status forgotten =
        co_await forget(migration.journal, migration.status.disk, migration.status.id);
    if (!forgotten.ok()) co_return forgotten;
    auto unused = std::move(found);
    found = {};
    co_await discard(migration.disk, std::move(unused));
  }
  const Status taken = co_await opener.compared();
  co_return taken;
}

Task<Status> arm_and_scan(Migration& migration, std::unique_ptr<BlockDevice> target) {
  const std::uint64_t size = migration.disk.info().size_bytes;
  const std::uint32_t granularity = migration.options.granularity_bytes;
  migration.replica = std::make_unique<Replica>(migration.loop, std::move(target));
  const bool resumed = !migration.recovered.empty();
  auto written = DirtyBitmap::create(size, granularity);
  if (!written.ok()) co_return written.error();
  auto dirty = resumed ? Result<std::unique_ptr<DirtyBitmap>>(std::move(migration.recovered.dirty))
                       : DirtyBitmap::create(size, granularity);
  if (!dirty.ok()) co_return dirty.error();
  migration.sync =
      std::make_unique<SyncState>(migration.loop, std::move(*dirty), std::move(*written),
                                  migration.options.verify != Verify::kNone);
  const Status guarded = migration.replica->mark_losses_in(*migration.sync->dirty);
  if (!guarded.ok()) co_return guarded;
  // An earlier life's requests may have landed on what was copied since.
  const bool may_be_late = migration.status.attempt > 1 && migration.replica->info().remote;
  if (migration.options.verify == Verify::kFull || may_be_late) {
    auto unverified = DirtyBitmap::create(size, granularity);
    if (!unverified.ok()) co_return unverified.error();
    migration.sync->unverified = std::move(*unverified);
  }
  migration.engine = std::make_unique<CopyEngine>(
      CopyEngine::Parts{migration.loop, migration.disk, *migration.replica, *migration.sync,
                        migration.options, migration.cancel, migration.share});
  const bool in_order = migration.options.mode == Mode::kCold;
  migration.order =
      in_order ? make_sequential_order() : make_hot_last_order(migration.disk.write_heat());
  migration.engine->set_order(migration.order.get());
  const bool recorded = is_recorded(migration.options);
  auto recovered = std::move(migration.recovered);
  if (recorded || resumed) {
    migration.checkpoint = std::make_unique<JobCheckpoint>(migration, std::move(recovered));
  }
  if (resumed) {
    // The bitmap is attached since before the disk's first client, and has all that differs.
    migration.checkpoint->arm();
    migration.status.resumed = true;
    const Status forgotten = co_await forget_digests(migration);
    if (!forgotten.ok()) co_return forgotten;
    co_await migration.checkpoint->recall();
  }
  const Status written_found = co_await find_written(migration);
  if (!written_found.ok()) co_return written_found;
  SyncState& sync = *migration.sync;
  const Status noted = co_await prepare_holes(migration, resumed);
  if (!noted.ok()) co_return noted;
  know_rest(migration);
  if (!resumed) {
    const bool armed_late = planted(PlantedBug::kScanBeforeArm);
    if (!armed_late) migration.disk.tracking().attach_job(*sync.dirty);
    const Status found = co_await find_different(migration);
    if (!found.ok()) co_return found;
    if (armed_late) migration.disk.tracking().attach_job(*sync.dirty);
    // Not before: a checkpoint would record as clean what the scan has not come to yet (I5).
    if (recorded) migration.checkpoint->arm();
  }
  if (sync.unverified && (resumed || may_be_late)) {
    sync.unverified->mark_all();  // what was sent before the crash is what is to be looked at
  } else if (sync.unverified) {
    // What is a hole on both sides is taken for equal, or a sparse disk would be read in its whole
    // size.
    sync.unverified->merge(*sync.dirty);
    sync.unverified->merge(*sync.written);
  }
  JobStatus& status = migration.status;
  status.bytes_total = sync.dirty->dirty_bytes();
  if (!resumed) status.bytes_unchanged = sync.dirty->size_bytes() - status.bytes_total;
  co_return Status();
}

}  // namespace blockmig

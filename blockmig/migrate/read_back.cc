// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/read_back.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <string>

#include "blockmig/base/planted.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

std::optional<std::uint64_t> first_difference(ConstBytes a, ConstBytes b) {
  if (std::memcmp(a.data(), b.data(), a.size()) == 0) return std::nullopt;
  const auto place = std::mismatch(a.begin(), a.end(), b.begin());
  return static_cast<std::uint64_t>(place.first - a.begin());
}

struct Difference {
  std::uint64_t offset = 0;
  std::string why;
};

/// The first chunk whose digest is known, and is another one.
std::optional<std::uint64_t> differs_from_digests(const SyncState& sync, const JobOptions& options,
                                                  std::uint64_t offset, ConstBytes content) {
  if (!sync.digests || !knows_all_digests(options)) return std::nullopt;
  return sync.digests->first_difference(offset, content);
}

/// One sweep over the unverified chunks.
class Sweep final {
 public:
  /// `fence`: the gate is closed until then; else the guest is running.
  Sweep(Migration& migration, std::optional<TimePoint> fence)
      : migration_(migration), sync_(*migration.sync), fence_(fence), ended_(migration.loop) {}

  Task<void> run() {
    std::uint64_t cursor = 0;
    while (!over()) {
      const auto range = take(cursor);
      if (!range) break;
      auto task = compare_range(*range);
      comparisons_.spawn(std::move(task));
      while (comparisons_.running() >= migration_.options.copy_depth) {
        ended_.reset();
        co_await ended_.wait();
      }
    }
    co_await comparisons_.join();
  }
  /// The first error; a difference only under the fence.
  const Status& failure() const { return failure_; }
  /// That is what it was, and may be over soon.
  bool source_stumbled() const { return source_stumbled_; }
  bool out_of_time() const { return out_of_time_; }

 private:
  bool over() {
    if (fence_ && migration_.loop.now() >= *fence_) out_of_time_ = true;
    return out_of_time_ || !failure_.ok() || migration_.cancel.cancelled();
  }

  /// Neighbouring unverified chunks from `cursor` on, claimed from the ledger.
  std::optional<ByteRange> take(std::uint64_t& cursor) {
    std::optional<ByteRange> range;
    while (auto chunk = sync_.unverified->next_dirty(cursor)) {
      const ByteRange here = sync_.unverified->chunk_range(*chunk);
      const bool follows = range && range->end() == here.offset &&
                           range->length + here.length <= migration_.options.copy_request_bytes;
      if (range && !follows) break;
      cursor = *chunk + 1;
      const auto index = static_cast<std::uint32_t>(*chunk);
      // What is to be copied again is compared then.
      if (sync_.dirty->is_dirty(index) || !sync_.ledger.try_begin_copy(index, false)) {
        if (range) break;
        continue;
      }
      range = range ? ByteRange{range->offset, range->length + here.length} : here;
    }
    return range;
  }

  Task<void> compare_range(ByteRange range) {
    const auto difference = co_await compare(range);
    if (!difference.ok()) {
      // Under the fence there is no time to try again: that comes before the next one.
      const bool late =
          fence_ && (difference.error().code() == ErrorCode::kTimedOut || source_stumbled_);
      if (late) out_of_time_ = true;
      if (!late && failure_.ok()) failure_ = difference.error();
    } else if (!difference->has_value()) {
      sync_.unverified->clear(range.offset, range.length);
    } else if (fence_) {
      ++sync_.mismatches;
      if (failure_.ok()) {
        failure_ = Error(ErrorCode::kMismatch,
                         "verification failed: target " + migration_.status.target_uri +
                             " differs from the source at offset " +
                             std::to_string((*difference)->offset) + (*difference)->why);
      }
    }
    const std::uint64_t granularity = sync_.unverified->granularity_bytes();
    for (std::uint64_t at = range.offset; at < range.end(); at += granularity) {
      sync_.ledger.end_copy(static_cast<std::uint32_t>(at / granularity));
    }
    ended_.set();
  }

  /// Where both hold the same, that is what was copied there, also before a restart. What has
  /// changed meanwhile is dirty, and copied and compared again.
  Result<std::optional<Difference>> compare_with_digests(ByteRange range, ConstBytes both) {
    const auto stale = differs_from_digests(sync_, migration_.options, range.offset, both);
    if (!stale || sync_.dirty->any_dirty(range.offset, range.length)) {
      return std::optional<Difference>();
    }
    ++sync_.mismatches;
    return Error(ErrorCode::kMismatch, "verification failed: source and target " +
                                           migration_.status.target_uri +
                                           " hold the same at offset " + std::to_string(*stale) +
                                           ", but not what was copied there");
  }

  /// Which of the two holds what was copied; empty where nobody knows.
  std::string who_changed(ByteRange range, std::uint64_t at, ConstBytes source, ConstBytes target) {
    // Of the digest's chunk that has the difference.
    const std::uint64_t chunk = align_down(at, ChunkDigests::kChunkBytes);
    const std::uint64_t end =
        std::min(chunk + ChunkDigests::kChunkBytes, sync_.dirty->size_bytes());
    const bool known = chunk >= range.offset && end <= range.end() && sync_.digests &&
                       sync_.digests->find(chunk / ChunkDigests::kChunkBytes);
    if (!known) return "";
    const auto part = [&](ConstBytes of) { return of.subspan(chunk - range.offset, end - chunk); };
    const auto& options = migration_.options;
    if (!differs_from_digests(sync_, options, chunk, part(source))) {
      return ": the target does not hold what was copied there";
    }
    if (!differs_from_digests(sync_, options, chunk, part(target))) {
      return ": the target holds what was copied there, the source does not any more";
    }
    return "";
  }

  /// The first difference in the range, if any.
  Task<Result<std::optional<Difference>>> compare(ByteRange range) {
    auto op = std::make_shared<TargetOp>(migration_.loop, TargetOpKind::kReadBack);
    op->memory = std::make_shared<Buffer>(range.length);
    op->bytes = op->memory->bytes();
    op->offset = range.offset;
    op->length = range.length;
    Buffer source(range.length);
    const MutableBytes into = source.bytes();
    const Status read = co_await migration_.disk.store().read(range.offset, into);
    if (!read.ok()) {
      source_stumbled_ = source_stumbled_ || is_transient(read.error());
      co_return read.error().with_context("verifying: reading the source at offset " +
                                          std::to_string(range.offset));
    }
    const TimePoint silent = migration_.loop.now() + migration_.options.target_timeout;
    const Status target_read = co_await migration_.replica->perform(op, fence_.value_or(silent));
    if (!target_read.ok()) {
      // The fence's time is shorter than what a target may be silent for.
      const bool is_silent = !fence_ && target_read.error().code() == ErrorCode::kTimedOut;
      if (is_silent) migration_.replica->note_trouble(target_read.error());
      co_return target_read.error().with_context("verifying");
    }
    if (planted(PlantedBug::kReadBackBelievesCopies)) co_return std::optional<Difference>();
    const auto difference = first_difference(into, op->bytes);
    if (!difference) co_return compare_with_digests(range, into);
    const std::uint64_t at = range.offset + *difference;
    const std::string why = who_changed(range, at, into, op->bytes);
    co_return std::optional<Difference>(Difference{at, why});
  }

  Migration& migration_;
  SyncState& sync_;
  std::optional<TimePoint> fence_;
  Event ended_;
  TaskScope comparisons_;
  Status failure_;
  bool source_stumbled_ = false;
  bool out_of_time_ = false;
};

/// Nothing was sent there, and nothing is left at rest there.
void mark_unsent(SyncState& sync, ByteRange range) {
  for (const auto& run : sync.written->runs(range.offset, range.length, SIZE_MAX)) {
    if (run.dirty) continue;
    if (!sync.rest) {
      sync.unverified->mark(run.range.offset, run.range.length);
      continue;
    }
    for (const auto& part : sync.rest->runs(run.range.offset, run.range.length, SIZE_MAX)) {
      if (!part.dirty) sync.unverified->mark(part.range.offset, part.range.length);
    }
  }
}

/// What the target has where nothing was sent may be a write that went astray: it is compared with
/// the source's hole. Of a target that cannot say, all that was not sent is. Errors: the target's
/// trouble; it is asked again when that is over.
Task<Status> look_for_astray(Migration& migration) {
  const std::uint64_t size = migration.sync->unverified->size_bytes();
  for (std::uint64_t at = 0; at < size && !migration.cancel.cancelled();) {
    const TimePoint deadline = migration.loop.now() + migration.options.target_timeout;
    const auto told = co_await migration.replica->extents(at, size - at, deadline);
    if (!told.ok() && is_trouble(told.error())) {
      migration.replica->note_trouble(told.error());
      co_return told.error().with_context("verifying: what the target has");
    }
    if (!told.ok() || told->empty()) {
      mark_unsent(*migration.sync, {at, size - at});
      co_return Status();
    }
    for (const Extent& extent : *told) {
      at = extent.offset + extent.length;
      if (!extent.zero) mark_unsent(*migration.sync, {extent.offset, extent.length});
    }
  }
  co_return Status();
}

}  // namespace

Task<Status> read_back(Migration& migration) {
  const Status looked = co_await look_for_astray(migration);
  if (!looked.ok()) co_return looked;
  const DirtyBitmap& unverified = *migration.sync->unverified;
  std::uint64_t least = unverified.dirty_count();
  Status failure;
  for (unsigned attempt = 0; attempt < kSourceAttempts; ++attempt) {
    Sweep sweep(migration, std::nullopt);
    co_await sweep.run();
    if (migration.cancel.cancelled()) co_return Error(ErrorCode::kCancelled, "the job was aborted");
    failure = sweep.failure();
    const bool again = sweep.source_stumbled() && !migration.replica->trouble();
    if (failure.ok() && attempt > 0) migration.status.error.reset();
    if (failure.ok() || !again) co_return failure;
    if (unverified.dirty_count() < least) attempt = 0;
    least = std::min(least, unverified.dirty_count());
    migration.status.error = failure.error();
    co_await back_off(migration, attempt);
  }
  co_return failure;
}

Task<Result<bool>> read_back_under_fence(Migration& migration, TimePoint deadline) {
  Sweep sweep(migration, deadline);
  co_await sweep.run();
  if (!sweep.failure().ok()) co_return sweep.failure().error();
  co_return !sweep.out_of_time() && migration.sync->unverified->dirty_count() == 0;
}

}  // namespace blockmig

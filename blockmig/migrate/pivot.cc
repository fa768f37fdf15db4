// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/pivot.h"

#include <algorithm>
#include <string>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/io/cancel.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/target_trouble.h"

namespace blockmig {
namespace {

/// Of keep_rest(), between turns of the loop: so many containers that have changed, or others.
constexpr unsigned kChangesPerTurn = 16;
constexpr unsigned kLooksPerTurn = 1024;
constexpr Duration kBetweenTurns = std::chrono::microseconds(1);

const DirtyBitmap& rest_of(const Migration& migration) {
  const SyncState& sync = *migration.sync;
  return sync.rest ? *sync.rest : *sync.dirty;
}

/// Makes the map what is dirty now, or was while it was looked at: with the gate open, others have
/// their turns.
Task<Status> follow_rest(Migration& migration, bool gate_open) {
  Pivot& pivot = *migration.pivot;
  const DirtyBitmap& rest = rest_of(migration);
  if (!pivot.map) {
    auto map = PresenceMap::create(rest.size_bytes(), rest.granularity_bytes());
    if (!map.ok()) co_return map.error();
    pivot.map = std::move(*map);
  }
  unsigned work = 0;
  for (std::uint32_t index = 0; index < pivot.map->container_count(); ++index) {
    const bool changed = pivot.map->follow(index, rest);
    if (changed) pivot.unsaved.insert(index);
    work += changed ? kLooksPerTurn / kChangesPerTurn : 1;
    if (!gate_open || work < kLooksPerTurn) continue;
    work = 0;
    co_await sleep_for(migration.loop, kBetweenTurns);
  }
  co_return Status();
}

/// Tells the journal what it may have otherwise, in changes of a bounded size. What a failed change
/// leaves there may be anything.
Task<Status> save_rest(Migration& migration) {
  Pivot& pivot = *migration.pivot;
  while (!pivot.unsaved.empty()) {
    RegionChange change{pivot.record.disk, pivot.record.regions, {}, {}};
    auto end = pivot.unsaved.begin();
    for (std::size_t i = 0; i < kMaxContainersPerChange && end != pivot.unsaved.end(); ++i, ++end) {
      RegionContainer container = pivot.map->durable_form(*end);
      if (container.bits.empty()) {
        change.erase.push_back(*end);
      } else {
        change.put.push_back(std::move(container));
      }
    }
    const Status saved = co_await migration.journal.change_regions(std::move(change));
    if (!saved.ok()) co_return saved.error().with_context("saving what is left behind");
    pivot.unsaved.erase(pivot.unsaved.begin(), end);
  }
  co_return Status();
}

/// With the gate closed: what is known of the chunks that are not left behind.
void begin_digests(Migration& migration) {
  if (!fetches_rest(migration) || !migration.sync->digests) return;
  auto created = HydrationDigests::create(migration.loop, migration.disk);
  if (!created.ok()) return;  // the report will have none
  migration.hydration_digests = std::move(*created);
  migration.hydration_digests->begin_with(std::move(*migration.sync->digests),
                                          migration.hydrating->map());
  migration.sync->digests.reset();
  hash_what_is_pulled(migration);
}

}  // namespace

bool fetches_rest(const Migration& migration) {
  return migration.at_rest == nullptr || migration.options.hydrate == Hydrate::kBackground;
}

void begin_pivot(Migration& migration) {
  migration.pivot = std::make_unique<Pivot>();
  HydrationRecord& record = migration.pivot->record;
  record.disk = migration.disk.name();
  record.epoch = migration.disk.epoch() + 1;
  record.base_uri = migration.disk.store_uri();
  record.granularity_bytes = migration.options.granularity_bytes;
  record.reverse_mirror = migration.options.reverse_mirror;
  record.regions = "absent." + migration.status.id + "." + std::to_string(record.epoch);
  record.job = migration.status.id;
  record.bwlimit_bytes_per_second = migration.options.bwlimit_bytes_per_second;
  record.patience_ms = static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(migration.options.base_patience)
          .count());
  record.read_back = migration.options.verify == Verify::kFull;
}

Task<Status> keep_rest(Migration& migration) {
  const HydrationRecord& record = migration.pivot->record;
  // First the record, so that whoever finds it without its decision can clean up after it.
  const Status saved = co_await migration.journal.save_hydration(record);
  if (!saved.ok()) co_return saved.error().with_context("saving what is left behind");
  const Status followed = co_await follow_rest(migration, true);
  if (!followed.ok()) co_return followed;
  const Status kept = co_await save_rest(migration);
  co_return kept;
}

/// The chunk stays dirty, so it is copied or pulled again. The flush before the fence follows.
Task<Status> write_one_absent(Migration& migration) {
  Pivot& pivot = *migration.pivot;
  const DirtyBitmap& rest = rest_of(migration);
  const auto chunk = rest.next_dirty(0);
  if (pivot.writable || !chunk) co_return Status();
  const ByteRange range = rest.chunk_range(*chunk);
  auto op = std::make_shared<TargetOp>(migration.loop, TargetOpKind::kWrite);
  op->offset = range.offset;
  op->length = range.length;
  op->memory = std::make_shared<Buffer>(range.length);
  op->bytes = op->memory->bytes();
  const MutableBytes into = op->bytes;
  const Status read = co_await migration.disk.store().read_once(range.offset, into);
  if (!read.ok()) std::fill(into.begin(), into.end(), std::byte{0});  // whoever needs it will see
  if (migration.sync->written) migration.sync->written->mark(range.offset, range.length);
  const TimePoint deadline = migration.loop.now() + migration.options.target_timeout;
  const Status written = co_await migration.replica->perform(op, deadline);
  pivot.writable = written.ok();
  if (written.ok()) co_return written;
  if (is_trouble(written.error())) migration.replica->note_trouble(written.error());
  co_return written.error().with_context("a test write to the target");
}

Task<Result<bool>> keep_rest_under_fence(Migration& migration) {
  SyncState& sync = *migration.sync;
  if (!sync.ledger.idle()) co_return false;
  const Status followed = co_await follow_rest(migration, false);
  if (!followed.ok()) co_return followed.error();
  if (!planted(PlantedBug::kRestSavedBeforeFence)) {
    const Status kept = co_await save_rest(migration);
    if (!kept.ok()) co_return kept.error();
  }
  // What is left behind is read back when it is pulled.
  if (sync.unverified && !sync.rest) sync.unverified->subtract(*sync.dirty);
  co_return true;
}

void swap_to_hydrating(Migration& migration, std::unique_ptr<BlockDevice> target) {
  HydratingDevice::Parts parts{migration.loop,
                               migration.journal,
                               migration.pivot->record,
                               std::move(migration.pivot->map),
                               std::move(target),
                               std::move(migration.sync->written),
                               migration.disk.info().size_bytes};
  auto device =
      std::make_unique<HydratingDevice>(std::move(parts), hydration_options(migration.options));
  migration.hydrating = device.get();
  auto base = migration.disk.swap_store(std::move(device), migration.status.target_uri,
                                        migration.disk.epoch() + 1);
  if (migration.at_rest != nullptr) {
    // Nobody writes the image at rest any more: what held it for writing is let go.
    migration.old_store = std::exchange(base, migration.at_rest->take_base());
  }
  migration.hydrating->attach_base(std::move(base));
  begin_digests(migration);
}

Task<void> forget_rest(Journal& journal, HydrationRecord record) {
  const Status regions = co_await journal.remove_regions(record.disk, record.regions);
  if (!regions.ok()) co_return;
  const Status removed = co_await journal.remove_hydration(record.disk);
  static_cast<void>(removed);
}

Task<void> withdraw_pivot(Migration& migration) {
  const HydrationRecord rest = migration.pivot->record;
  co_await forget_rest(migration.journal, rest);
  if (migration.at_rest == nullptr) co_return;
  const Status withdrawn = co_await migration.at_rest->withdraw();
  if (withdrawn.ok()) co_return;
  // The next serving of the disk puts it right.
  note_decision(migration, "the image's manifest says that the disk has left it",
                withdrawn.error().message());
}

}  // namespace blockmig

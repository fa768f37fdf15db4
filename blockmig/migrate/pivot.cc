// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/pivot.h"

#include <set>
#include <string>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/migrate/hydration.h"

namespace blockmig {
namespace {

/// What a failed save leaves: any of these may be there, with any content.
std::vector<RegionContainer> doubtful(const std::vector<RegionContainer>& saved,
                                      const std::vector<RegionContainer>& wanted) {
  std::set<std::uint32_t> indices;
  for (const auto* const containers : {&saved, &wanted}) {
    for (const RegionContainer& container : *containers) indices.insert(container.index);
  }
  std::vector<RegionContainer> all;
  for (const std::uint32_t index : indices) all.push_back({index, {}});
  return all;
}

/// Makes the saved containers those of `wanted`, in changes of a bounded size.
Task<Status> save_difference(Migration& migration, std::vector<RegionContainer> wanted) {
  Pivot& pivot = *migration.pivot;
  auto old = pivot.saved.begin();
  std::vector<RegionContainer> puts;
  std::vector<std::uint32_t> erased;
  for (const RegionContainer& container : wanted) {
    while (old != pivot.saved.end() && old->index < container.index) {
      erased.push_back((old++)->index);
    }
    const bool known = old != pivot.saved.end() && old->index == container.index;
    if (!known || old->bits != container.bits) puts.push_back(container);
    if (known) ++old;
  }
  for (; old != pivot.saved.end(); ++old) erased.push_back(old->index);
  for (std::size_t put = 0, erase = 0; put < puts.size() || erase < erased.size();) {
    RegionChange change{pivot.record.disk, pivot.record.regions, {}, {}};
    while (put < puts.size() && change.put.size() < kMaxContainersPerChange) {
      change.put.push_back(std::move(puts[put++]));
    }
    while (erase < erased.size() &&
           change.put.size() + change.erase.size() < kMaxContainersPerChange) {
      change.erase.push_back(erased[erase++]);
    }
    const Status saved = co_await migration.journal.change_regions(std::move(change));
    if (saved.ok()) continue;
    pivot.saved = doubtful(pivot.saved, wanted);
    co_return saved.error().with_context("saving what is left behind");
  }
  pivot.saved = std::move(wanted);
  co_return Status();
}

Result<std::unique_ptr<PresenceMap>> map_of_rest(const Migration& migration) {
  const SyncState& sync = *migration.sync;
  const DirtyBitmap& dirty = sync.rest ? *sync.rest : *sync.dirty;
  auto map = PresenceMap::create(dirty.size_bytes(), dirty.granularity_bytes());
  if (map.ok()) (*map)->set_absent(dirty);
  return map;
}

/// With the gate closed: what is known of the chunks that are not left behind.
void begin_digests(Migration& migration) {
  if (!fetches_rest(migration) || !migration.sync->digests) return;
  auto created = HydrationDigests::create(migration.loop, migration.disk);
  if (!created.ok()) return;  // the report will have none
  ChunkDigests known = std::move(*migration.sync->digests);
  const PresenceMap& map = migration.hydrating->map();
  for (const DirtyBitmap::Run& run : map.runs({0, known.size_bytes()}, SIZE_MAX)) {
    if (run.dirty) known.invalidate(run.range.offset, run.range.length);
  }
  migration.sync->digests.reset();
  migration.hydration_digests = std::move(*created);
  migration.hydration_digests->begin_with(std::move(known));
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
  auto map = map_of_rest(migration);
  if (!map.ok()) co_return map.error();
  auto wanted = (*map)->durable_form();
  const Status kept = co_await save_difference(migration, std::move(wanted));
  co_return kept;
}

Task<Result<bool>> keep_rest_under_fence(Migration& migration) {
  SyncState& sync = *migration.sync;
  if (!sync.ledger.idle()) co_return false;
  auto map = map_of_rest(migration);
  if (!map.ok()) co_return map.error();
  auto wanted = (*map)->durable_form();
  if (!planted(PlantedBug::kRestSavedBeforeFence)) {
    const Status kept = co_await save_difference(migration, std::move(wanted));
    if (!kept.ok()) co_return kept.error();
  }
  migration.pivot->map = std::move(*map);
  if (sync.unverified && !sync.rest) {
    // What is left behind is read back when it is pulled.
    for (auto chunk = sync.dirty->next_dirty(0); chunk;
         chunk = sync.dirty->next_dirty(*chunk + 1)) {
      const ByteRange range = sync.dirty->chunk_range(*chunk);
      sync.unverified->clear(range.offset, range.length);
    }
  }
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

// SPDX-License-Identifier: Apache-2.0
// shared: the data at rest stays in its folder, and only current data moves (Yadav and Krishna).
//
// Current is what was read or written lately, and everything that the guest writes from now on: the
// working set is copied in passes like in `dbt`, and under the fence to its last chunk. The rest is
// hashed where it lies, so that whatever is fetched later can be checked, and becomes the base of
// the disk's new store. A chunk leaves the rest when it is copied, so every chunk that the guest
// has touched since it was hashed is in the new store.
#include "blockmig/migrate/data_at_rest.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/pivot.h"

namespace blockmig {
namespace {

/// Of requests, decayed: one within the last minutes.
constexpr double kWarm = 0.1;

/// Moves the chunks that nobody has used lately from what is to be copied to what is left at rest.
Status choose_working_set(Migration& migration) {
  SyncState& sync = *migration.sync;
  auto rest = DirtyBitmap::create(sync.dirty->size_bytes(), sync.dirty->granularity_bytes());
  auto warm = DirtyBitmap::create(sync.dirty->size_bytes(), sync.dirty->granularity_bytes());
  if (!rest.ok()) return rest.error();
  if (!warm.ok()) return warm.error();
  const TimePoint now = migration.loop.now();
  for (const HeatMap* heat : {&migration.disk.write_heat(), &migration.disk.read_heat()}) {
    for (const HeatMap::Region& region : heat->at_least(kWarm, now)) {
      (*warm)->mark(region.range.offset, region.range.length);
    }
  }
  // A write of this very moment stays in `dirty` by its second mark (I5).
  for (auto chunk = sync.dirty->next_dirty(0); chunk; chunk = sync.dirty->next_dirty(*chunk + 1)) {
    if ((*warm)->is_dirty(*chunk)) continue;
    const ByteRange range = sync.dirty->chunk_range(*chunk);
    (*rest)->mark(range.offset, range.length);
    sync.dirty->clear(range.offset, range.length);
    if (sync.unverified) sync.unverified->clear(range.offset, range.length);
  }
  sync.rest = std::move(*rest);
  migration.status.bytes_total = sync.dirty->dirty_bytes();
  migration.status.bytes_at_rest = sync.rest->dirty_bytes();
  return {};
}

}  // namespace

Task<Status> run_shared(Migration& migration) {
  if (migration.at_rest == nullptr) {
    co_return Error(ErrorCode::kPrecondition,
                    "mode shared needs a disk whose store is a file in a folder; disk " +
                        migration.disk.name() + " is on " + migration.status.source_uri);
  }
  migration.status.active_mode = Mode::kShared;
  enter_phase(migration.status.phase, Phase::kCopying);
  const Status chosen = choose_working_set(migration);
  if (!chosen.ok()) co_return chosen;
  const Status hashed = co_await migration.at_rest->hash(migration.disk.store(),
                                                         *migration.sync->rest, migration.cancel);
  if (!hashed.ok()) co_return hashed.error().with_context("hashing what stays in the folder");
  begin_pivot(migration);
  HydrationRecord& record = migration.pivot->record;
  record.reverse_mirror = false;
  record.base_generation = migration.at_rest->generation();
  record.hydrate = migration.options.hydrate;
  const Status moved = co_await copy_without_mirror(migration);
  if (!moved.ok()) co_return moved;
  // Where all of it was in use, nothing is left at rest.
  if (!fetches_rest(migration) && !migration.hydrating->whole()) co_return moved;
  const Status hydrated = co_await run_hydration(migration);
  co_return hydrated;
}

}  // namespace blockmig

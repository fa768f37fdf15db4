// SPDX-License-Identifier: Apache-2.0
// BitmapKeeper::open(): a disk's bitmaps, from what is recorded of them.
#include <algorithm>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/disk/bitmap_keeper.h"
#include "blockmig/disk/bitmap_records.h"
#include "blockmig/disk/region_snapshot.h"

namespace blockmig {
namespace {

using Recorded = DirtyTracking::Recorded;

}  // namespace

Task<Result<BitmapKeeper::Found>> BitmapKeeper::find_records() {
  Found found;
  const std::string name = disk_.name();
  const auto sets = co_await journal_.load_sets(name);
  if (!sets.ok()) co_return sets.error();
  const RegionSetId active = bitmap_records::active_of(name);
  for (const RegionSetRecord& set : *sets) {
    if (set.name == active.name) {
      found.has_active = true;
      found.active = set;
    } else if (bitmap_records::name_of(set)) {
      found.sets.push_back(set);
    }
  }
  const std::string topic = bitmap_records::kClosedTopic;
  const auto note = co_await journal_.load_note(topic, name);
  if (!note.ok()) co_return note.error();
  if (note->has_value()) {
    found.closed_in_order = true;
    found.identity = (*note)->text;
  }
  co_return std::move(found);
}

std::string BitmapKeeper::why_not_trusted(const Found& found, bool same_store,
                                          const std::string& identity) const {
  if (!same_store && disk_.info().read_only) {
    return "it is served read-only, so nothing says that nobody else has written to its store";
  }
  if (!same_store) return "the disk was given other content";
  if (!found.has_active) return "what was written lately is not recorded";
  if (found.active.size_bytes != disk_.info().size_bytes) return "the disk has another size";
  const bool comparable = found.closed_in_order && !found.identity.empty();
  if (comparable && identity != found.identity && !planted(PlantedBug::kBitmapTrustsAnyImage)) {
    return "its image was changed while it was not served";
  }
  return "";
}

Task<Result<JournalBatch>> removal_of_bitmaps(Journal& journal, std::string disk) {
  const auto sets = co_await journal.load_sets(disk);
  if (!sets.ok()) co_return sets.error();
  JournalBatch batch;
  for (const RegionSetRecord& set : *sets) {
    if (bitmap_records::name_of(set)) batch.removed_sets.push_back({set.disk, set.name});
  }
  batch.removed_sets.push_back(bitmap_records::active_of(disk));
  batch.removed_notes.push_back(bitmap_records::closed_in_order(disk, ""));
  co_return std::move(batch);
}

Task<Status> BitmapKeeper::open(bool same_store, std::string identity) {
  failed_ = true;
  auto found = co_await find_records();
  if (!found.ok()) co_return found.error();
  if (found->sets.empty()) {
    failed_ = false;
    co_return Status();
  }
  std::string why_not = why_not_trusted(*found, same_store, identity);
  auto moved = *std::move(found);
  const Status opened = co_await open_records(std::move(moved), std::move(why_not));
  failed_ = !opened.ok();
  co_return opened;
}

Task<Status> BitmapKeeper::open_records(Found found, std::string why_not) {
  JournalBatch batch;
  // From here on there may be writes: only the activity log says where.
  batch.removed_notes.push_back(bitmap_records::closed_in_order(disk_.name(), ""));
  std::vector<RegionContainer> active;
  if (why_not.empty()) {
    const std::string disk = found.active.disk;
    const std::string name = found.active.name;
    auto loaded = co_await journal_.load_regions(disk, name);
    if (!loaded.ok()) co_return loaded.error();
    active = *std::move(loaded);
    log_ = std::make_unique<ActivityLog>(loop_, journal_, bitmap_records::active_of(disk),
                                         disk_.info().size_bytes, found.active.granularity_bytes);
    const Status regions = log_->load(active);
    if (!regions.ok()) {
      log_.reset();
      co_return regions;
    }
    disk_.tracking().set_log(Recorded::kNamed, log_.get());
  }
  for (const RegionSetRecord& set : found.sets) {
    std::string why = set.kind == kDistrustedBitmapSet ? set.note : why_not;
    if (why.empty() && set.size_bytes != disk_.info().size_bytes) why = "the disk has another size";
    if (why.empty()) {
      const Status taken = co_await take_up(set, active);
      if (!taken.ok()) co_return taken.error().with_context("bitmap '" + set.name + "'");
      continue;
    }
    auto kept = std::make_unique<Kept>();
    kept->plan = bitmap_records::plan_of(set);
    kept->inconsistent = why;
    kept_.push_back(std::move(kept));
    if (set.kind == kDistrustedBitmapSet) continue;
    batch.removed_sets.push_back({set.disk, set.name});
    batch.sets.push_back(bitmap_records::distrusted(set, why));
  }
  const Status saved = co_await journal_.commit(batch);
  if (!saved.ok()) co_return saved;
  if (log_ != nullptr) start_checkpoints();
  co_return Status();
}

/// One that can be trusted: what is recorded, and what may have been written since.
Task<Status> BitmapKeeper::take_up(const RegionSetRecord& set,
                                   const std::vector<RegionContainer>& active) {
  const std::uint64_t size = disk_.info().size_bytes;
  const auto containers = co_await journal_.load_regions(set.disk, set.name);
  if (!containers.ok()) co_return containers.error();
  auto created = DirtyBitmap::create(size, set.granularity_bytes);
  if (!created.ok()) co_return created.error();
  DirtyBitmap& bitmap = **created;
  auto recorded = std::make_unique<DirtyFilter>(bitmap.chunk_count());
  const auto mark = [&bitmap, size](std::uint64_t first, std::uint64_t end, std::uint64_t unit) {
    const std::uint64_t until = std::min(end * unit, size);
    bitmap.mark(first * unit, until - first * unit);
  };
  const std::uint64_t granularity = set.granularity_bytes;
  const Status marked =
      for_each_run(*containers, bitmap.chunk_count(), [&](std::uint64_t first, std::uint64_t end) {
        recorded->set_range(first, end);
        mark(first, end, granularity);
      });
  if (!marked.ok()) co_return marked;
  auto kept = std::make_unique<Kept>();
  kept->plan = bitmap_records::plan_of(set);
  kept->recorded = std::move(recorded);
  if (kept->plan.recording && !planted(PlantedBug::kActiveRegionsForgotten)) {
    const std::uint64_t region = log_->region_bytes();
    const Status or_ed =
        for_each_run(active, log_->region_count(),
                     [&](std::uint64_t first, std::uint64_t end) { mark(first, end, region); });
    if (!or_ed.ok()) co_return or_ed;
  }
  const Status added =
      disk_.tracking().add(kept->plan.name, *std::move(created), kept->plan.recording);
  if (!added.ok()) co_return added;
  kept_.push_back(std::move(kept));
  co_return Status();
}

}  // namespace blockmig

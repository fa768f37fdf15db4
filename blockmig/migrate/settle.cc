// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/settle.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {
namespace {

constexpr std::size_t kAllRuns = SIZE_MAX;

constexpr DiskOp kChanges[] = {DiskOp::kWrite, DiskOp::kZero, DiskOp::kTrim};

/// Requests of the guest that have ended.
std::uint64_t changes_of(const RequestStats& stats) {
  std::uint64_t changes = 0;
  for (const DiskOp op : kChanges) changes += stats.requests(op);
  return changes;
}

bool is_changing(const RequestStats& stats) {
  return std::any_of(std::begin(kChanges), std::end(kChanges),
                     [&stats](DiskOp op) { return stats.in_flight(op) != 0; });
}

Error refusal(const Migration& migration, const std::string& why) {
  return Error(ErrorCode::kPrecondition, "disk '" + migration.disk.name() +
                                             "' cannot be settled into " +
                                             migration.status.target_uri + ": " + why);
}

}  // namespace

Task<Status> begin_settling(Migration& migration, std::unique_ptr<BlockDevice>& target) {
  Settling& settling = migration.settling;
  settling.layer = hydrating_layer(migration.disk);
  settling.merge = migration.opener->rest_merge();
  if (settling.layer == nullptr || !settling.layer->at_rest() || settling.merge == nullptr) {
    co_return refusal(migration, "it has no data at rest there");
  }
  const HydrationRecord rest = settling.layer->record();
  if (rest.granularity_bytes != migration.options.granularity_bytes) {
    co_return refusal(migration,
                      "it is tracked in chunks of " + format_bytes(rest.granularity_bytes));
  }
  auto facts = co_await settling.merge->look(rest);
  if (!facts.ok()) co_return facts.error();
  settling.facts = *std::move(facts);
  const bool read_all = migration.options.verify == Verify::kFull;
  const auto unchanged =
      co_await settling.merge->check(*target, settling.layer->map(), read_all, migration.cancel);
  if (!unchanged.ok()) co_return unchanged.error();
  if (!planted(PlantedBug::kMergeManifestLate)) {
    const Status begun = co_await settling.merge->begin();
    if (!begun.ok()) co_return begun;
  }
  // What an earlier try has put there is not known.
  const bool known = *unchanged && !settling.facts.changing;
  auto wrapped = std::make_unique<MergeTarget>(std::move(target), *settling.layer,
                                               known ? settling.facts.digests.get() : nullptr);
  settling.target = wrapped.get();
  target = std::move(wrapped);
  co_return Status();
}

void know_rest(Migration& migration) {
  if (migration.settling.layer == nullptr || !migration.sync->digests) return;
  ChunkDigests& digests = *migration.sync->digests;
  const ByteRange whole{0, digests.size_bytes()};
  for (const DirtyBitmap::Run& run : migration.settling.layer->map().runs(whole, kAllRuns)) {
    if (run.dirty) digests.take(*migration.settling.facts.digests, run.range);
  }
}

std::unique_ptr<BlockDevice> release_settled(Migration& migration,
                                             std::unique_ptr<BlockDevice> target) {
  Settling& settling = migration.settling;
  if (settling.target == nullptr) return target;
  settling.writes_at_decision = changes_of(migration.disk.stats());
  const std::uint64_t spared = settling.target->bytes_spared();
  std::unique_ptr<BlockDevice> image = settling.target->release();
  settling.target = nullptr;
  if (spared != 0) {
    note_decision(migration, "not written", "the image had " + format_bytes(spared) + " already");
  }
  return image;
}

Task<void> finish_settling(Migration& migration) {
  Settling& settling = migration.settling;
  const ChunkDigests* const digests = migration.sync->digests ? &*migration.sync->digests : nullptr;
  const Disk& disk = migration.disk;
  std::function<bool()> untouched = [&disk, before = settling.writes_at_decision] {
    const RequestStats stats = disk.stats();
    return changes_of(stats) == before && !is_changing(stats);
  };
  const Status finished = co_await settling.merge->finish(digests, std::move(untouched));
  if (!finished.ok()) {
    // The next serving of the disk puts it right.
    note_decision(migration, "the image's manifest is behind", finished.error().message());
  }
  settling.layer->retire();
  const HydrationRecord rest = settling.layer->record();
  co_await forget_rest(migration.journal, rest);
}

}  // namespace blockmig

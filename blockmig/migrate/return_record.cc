// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/return_record.h"

#include <utility>
#include <vector>

#include "blockmig/base/planted.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {
namespace {

constexpr std::string_view kPrefix = ".return-";

/// The target of a point in time gets no disk, and what a pivot leaves behind is still needed. What
/// the record does not mark must be in the store that is left: not in what that fetches from.
bool leaves_a_whole_store(const Migration& migration) {
  if (migration.pivot || migration.options.point_in_time) return false;
  const auto* const layer = hydrating_layer(migration.disk);
  return layer == nullptr || layer->whole();
}

BitmapKeeper* keeper_of(const Migration& migration) {
  return migration.opener ? migration.opener->bitmaps() : nullptr;
}

}  // namespace

std::string return_record_name(std::uint64_t epoch) {
  return std::string(kPrefix) + std::to_string(epoch);
}

bool is_return_record(std::string_view bitmap_name) { return bitmap_name.starts_with(kPrefix); }

std::optional<WayBack> find_way_back(const BitmapKeeper& bitmaps, std::uint64_t epoch) {
  const std::string name = return_record_name(epoch);
  for (const BitmapFacts& facts : bitmaps.bitmaps()) {
    if (facts.name == name) return WayBack{facts.inconsistent, facts.bitmap, facts.id};
  }
  return std::nullopt;
}

Status check_way_back(const BitmapKeeper* bitmaps, const std::string& name, std::uint64_t epoch) {
  const auto found = bitmaps == nullptr ? std::nullopt : find_way_back(*bitmaps, epoch);
  const std::string otherwise = ": move it with another mode";
  if (!found) {
    return Error(ErrorCode::kPrecondition,
                 "what has changed since disk '" + name +
                     "' left its last store was not recorded (the move there wants --keep-record)" +
                     otherwise);
  }
  if (found->changed != nullptr) return {};
  return Error(ErrorCode::kPrecondition, "what has changed since disk '" + name +
                                             "' left its last store is not known any more (" +
                                             found->inconsistent + ")" + otherwise);
}

Task<void> begin_return_record(Migration& migration, std::uint64_t epoch) {
  BitmapKeeper* const bitmaps = keeper_of(migration);
  if (bitmaps == nullptr || !migration.options.keep_record) co_return;
  if (!leaves_a_whole_store(migration)) {
    note_decision(migration, "the way back is not recorded",
                  "the store that is left does not have the whole disk");
    co_return;
  }
  const auto found = find_way_back(*bitmaps, epoch);
  if (found && found->changed != nullptr) co_return;  // of a try that was postponed
  if (found) {
    std::string name = return_record_name(epoch);
    const Status removed = co_await bitmaps->remove(std::move(name));
    static_cast<void>(removed);  // then it is still there, and adding says so
  }
  BitmapPlan plan;
  plan.name = return_record_name(epoch);
  plan.granularity_bytes = migration.options.granularity_bytes;
  plan.id = migration.opener->new_record_id();
  const Status begun = co_await bitmaps->add(std::move(plan));
  if (!begun.ok()) {
    note_decision(migration, "the way back is not recorded", begun.error().message());
  }
}

Task<void> settle_return_record(Migration& migration) {
  BitmapKeeper* const bitmaps = keeper_of(migration);
  if (bitmaps == nullptr) co_return;
  // After a pivot nothing of what was recorded is about the store that was left.
  const bool known = !(migration.decided && migration.pivot);
  const std::uint64_t epoch = known ? migration.disk.epoch() : 0;
  co_await drop_other_records(*bitmaps, epoch);
}

Task<void> drop_other_records(BitmapKeeper& bitmaps, std::uint64_t epoch) {
  const std::string kept = return_record_name(epoch);
  std::vector<std::string> others;
  for (const BitmapFacts& facts : bitmaps.bitmaps()) {
    if (is_return_record(facts.name) && facts.name != kept) others.push_back(facts.name);
  }
  for (std::string& name : others) {
    std::string other = std::move(name);
    const Status removed = co_await bitmaps.remove(std::move(other));
    static_cast<void>(removed);  // its epoch is no disk's any more: tried again at the next serving
  }
}

Status mark_changes(const Migration& migration, DirtyBitmap& dirty) {
  const BitmapKeeper* const bitmaps = keeper_of(migration);
  const std::uint64_t epoch = migration.disk.epoch();
  const Status known = check_way_back(bitmaps, migration.disk.name(), epoch);
  if (!known.ok()) return known;
  if (planted(PlantedBug::kReturnCopiesNothing)) return {};
  dirty.merge(*find_way_back(*bitmaps, epoch)->changed);
  return {};
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/bitmap_records.h"

#include <string_view>
#include <utility>

namespace blockmig::bitmap_records {
namespace {

constexpr std::string_view kPrefix = "bitmap/";
constexpr std::uint64_t kRecords = 1;  ///< of the record's tag: writes mark it

}  // namespace

RegionSetId set_of(const std::string& disk, const std::string& bitmap) {
  return {disk, std::string(kPrefix) + bitmap};
}

RegionSetId active_of(const std::string& disk) { return {disk, "bitmaps/active"}; }

std::optional<std::string> name_of(const RegionSetRecord& set) {
  const bool kind = set.kind == kBitmapSet || set.kind == kDistrustedBitmapSet;
  if (!kind || !set.name.starts_with(kPrefix)) return std::nullopt;
  return set.name.substr(kPrefix.size());
}

RegionSetRecord describe(const Disk& disk, const BitmapPlan& plan) {
  RegionSetRecord record;
  const RegionSetId set = set_of(disk.name(), plan.name);
  record.disk = set.disk;
  record.name = set.name;
  record.kind = kBitmapSet;
  record.size_bytes = disk.info().size_bytes;
  record.granularity_bytes = plan.granularity_bytes;
  record.tag = plan.recording ? kRecords : 0;
  record.note = plan.id;
  return record;
}

BitmapPlan plan_of(const RegionSetRecord& set) {
  BitmapPlan plan;
  plan.name = set.name.substr(kPrefix.size());
  plan.granularity_bytes = set.granularity_bytes;
  plan.persistent = true;
  plan.recording = (set.tag & kRecords) != 0;
  if (set.kind == kBitmapSet) plan.id = set.note;
  return plan;
}

RegionSetRecord distrusted(RegionSetRecord set, const std::string& why) {
  set.kind = kDistrustedBitmapSet;
  set.note = why;
  return set;
}

NoteRecord closed_in_order(const std::string& disk, const std::string& identity) {
  return {kClosedTopic, disk, identity};
}

}  // namespace blockmig::bitmap_records

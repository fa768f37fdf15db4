// SPDX-License-Identifier: Apache-2.0
// What the journal holds of a disk's persistent bitmaps, in the journal's terms (FORMAT.md, "Named
// bitmaps"). Pure; any thread.
#pragma once

#include <optional>
#include <string>

#include "blockmig/disk/bitmap_keeper.h"
#include "blockmig/disk/disk.h"
#include "blockmig/journal/journal.h"

namespace blockmig::bitmap_records {

/// The topic of the note that a disk was closed in order.
inline constexpr const char* kClosedTopic = "bitmaps-closed";

RegionSetId set_of(const std::string& disk, const std::string& bitmap);
RegionSetId active_of(const std::string& disk);
/// The bitmap's name, if the set is one of a disk's bitmaps.
std::optional<std::string> name_of(const RegionSetRecord& set);
/// The set's record.
RegionSetRecord describe(const Disk& disk, const BitmapPlan& plan);
BitmapPlan plan_of(const RegionSetRecord& set);
/// The record of one that cannot be trusted.
RegionSetRecord distrusted(RegionSetRecord set, const std::string& why);
NoteRecord closed_in_order(const std::string& disk, const std::string& identity);

}  // namespace blockmig::bitmap_records

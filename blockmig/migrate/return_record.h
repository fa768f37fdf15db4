// SPDX-License-Identifier: Apache-2.0
// The way back: which chunks of a disk have changed since it left its old store, so that mode
// `return` copies only those.
//
// The record is a persistent bitmap of the disk (BitmapKeeper), named after the epoch that the disk
// has since the switchover. It begins before the fence, with the source flushed, so it has every
// chunk that the guest has changed since the two stores were the same, and a few more:
//
//     record(e) ⊇ { chunks where the disk at epoch e differs from the store that it left }   (I5)
//
// also after a power loss of either store. A move back that ends without its decision leaves the
// record true: what it has written there are chunks of the record. It goes when the disk has moved
// on. Whether the old store is still what was left is its opener's to judge (judge_return()).
// Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "blockmig/base/error.h"
#include "blockmig/disk/bitmap_keeper.h"
#include "blockmig/io/task.h"

namespace blockmig {

struct Migration;

/// Users' bitmaps never begin like this.
std::string return_record_name(std::uint64_t epoch);
bool is_return_record(std::string_view bitmap_name);

struct WayBack {
  std::string inconsistent;              ///< why it cannot be trusted; empty if it can
  const DirtyBitmap* changed = nullptr;  ///< null if it is inconsistent
  std::string id{};                      ///< TargetOpener::new_record_id() of its beginning
};
/// Of a disk that came to where it is at `epoch`; nothing: not recorded.
std::optional<WayBack> find_way_back(const BitmapKeeper& bitmaps, std::uint64_t epoch);
/// kPrecondition: what has changed since disk `name` left its old store is not known; why.
Status check_way_back(const BitmapKeeper* bitmaps, const std::string& name, std::uint64_t epoch);

/// Before the fence of a move after which the old store is whole and not needed, if the job was
/// told to. `epoch`: that the disk will have. Trouble costs the way back, not the move: it is noted
/// among the job's decisions.
Task<void> begin_return_record(Migration& migration, std::uint64_t epoch);
/// After the decision, or when there will be none: only the record of where the disk is stays.
Task<void> settle_return_record(Migration& migration);
/// The same for a disk that is served at `epoch`.
Task<void> drop_other_records(BitmapKeeper& bitmaps, std::uint64_t epoch);

/// Marks in `dirty`, which sees the disk's writes already, what has changed since the disk left the
/// job's target. As check_way_back().
Status mark_changes(const Migration& migration, DirtyBitmap& dirty);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The way back in a world: moves that record what changes after them, and moves back that copy only
// that, with crashes and power losses in between.
#include <algorithm>

#include "blockmig/migrate/return_record.h"
#include "world.h"

namespace blockmig::sim {

/// Every chunk where the disk differs from the store that it has left must be marked.
void World::check_way_back(const FaultDevice& left, const DirtyBitmap& changed) {
  std::vector<std::byte> here(size_bytes_);
  std::vector<std::byte> there(size_bytes_);
  owner_->peek(0, here);
  left.peek(0, there);
  for (std::uint64_t chunk = 0; chunk < changed.chunk_count(); ++chunk) {
    if (changed.is_dirty(chunk)) continue;
    const ByteRange range = changed.chunk_range(chunk);
    const auto begin = here.begin() + static_cast<std::ptrdiff_t>(range.offset);
    const auto end = begin + static_cast<std::ptrdiff_t>(range.length);
    const auto old = there.begin() + static_cast<std::ptrdiff_t>(range.offset);
    const auto place = std::mismatch(begin, end, old);
    if (place.first == end) continue;
    return complain("offset " + std::to_string(place.first - here.begin()) +
                    " differs from the store that was left, and the way back does not know (I5)");
  }
}

/// The store that the disk could return to; null: not known, or not let go of yet.
std::shared_ptr<FaultDevice> World::find_way_back() {
  if (keeper_ == nullptr || !journal_records_.contains(disk_key("disk"))) return nullptr;
  const auto back = blockmig::find_way_back(*keeper_, disk_->epoch());
  if (!back || back->changed == nullptr) return nullptr;
  const DiskRecord record = journal_.disk_record("disk");
  const auto left = find_store(record.previous_uri.substr(4));
  check_way_back(*left, *back->changed);
  // As the daemon: not before it has answered all that an earlier move has sent it.
  const auto unanswered = board_->unanswered();
  const bool owes = std::any_of(unanswered.begin(), unanswered.end(), [&](const auto& place) {
    return place.uri == record.previous_uri;
  });
  return left == held_ || owes ? nullptr : left;
}

/// What a daemon does that serves the disk again.
Task<void> World::reopen_records() {
  std::string nothing_to_compare;
  const Status opened = co_await keeper_->open(true, std::move(nothing_to_compare));
  if (!opened.ok()) blame("the way back cannot be taken up: " + opened.error().message());
  held_.reset();  // the crash has cut it off
  if (crashed_) co_return;
  const std::uint64_t epoch = disk_->epoch();
  co_await drop_other_records(*keeper_, epoch);
  if (crashed_) co_return;
  static_cast<void>(find_way_back());
}

}  // namespace blockmig::sim

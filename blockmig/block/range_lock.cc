// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/range_lock.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

constexpr std::size_t kSpareNodes = 256;

}  // namespace

RangeLock::~RangeLock() { BM_CHECK(entries_.empty()); }

RangeLock::Awaiter RangeLock::lock(ByteRange range) { return Awaiter(*this, enter(range, false)); }

RangeLock::Passage RangeLock::passed(ByteRange range) { return Passage(*this, enter(range, true)); }

RangeLock::Place RangeLock::enter(ByteRange range, bool passes) {
  if (spare_.empty()) spare_.emplace_back();
  entries_.splice(entries_.end(), spare_, spare_.begin());
  const Place place = std::prev(entries_.end());
  *place = Entry{range, {}, passes};
  count(*place, 1);
  return place;
}

void RangeLock::count(const Entry& entry, int by) {
  if (entry.passes || entry.range.empty()) return;
  const std::uint64_t first = entry.range.offset / kUnitBytes;
  const std::uint64_t last = std::min((entry.range.end() - 1) / kUnitBytes, first + kCounts - 1);
  for (std::uint64_t unit = first; unit <= last; ++unit) {
    counts_[unit % kCounts] += static_cast<std::uint32_t>(by);
  }
}

bool RangeLock::only(std::uint32_t own, ByteRange range) const {
  if (range.empty()) return true;
  const std::uint64_t first = range.offset / kUnitBytes;
  const std::uint64_t last = std::min((range.end() - 1) / kUnitBytes, first + kCounts - 1);
  for (std::uint64_t unit = first; unit <= last; ++unit) {
    if (counts_[unit % kCounts] > own) return false;
  }
  return true;
}

RangeLock::Awaiter RangeLock::Hold::widen(ByteRange outer) {
  BM_CHECK(lock_ != nullptr);
  return std::exchange(lock_, nullptr)->widen(place_, outer);
}

/// In its place in the order, behind those that are granted already. These overlap nothing before
/// them, so they may be moved there. Everybody waits for earlier places only: no deadlock.
RangeLock::Awaiter RangeLock::widen(Place place, ByteRange outer) {
  BM_CHECK(outer.contains(place->range));
  for (auto entry = std::next(place); entry != entries_.end();) {
    const auto next = std::next(entry);
    if (!entry->waiter && entry->range.overlaps(outer)) entries_.splice(place, entries_, entry);
    entry = next;
  }
  count(*place, -1);
  place->range = outer;
  count(*place, 1);
  return Awaiter(*this, place);
}

bool RangeLock::touches(ByteRange range) const {
  if (only(0, range)) return false;
  for (const Entry& entry : entries_) {
    if (!entry.passes && entry.range.overlaps(range)) return true;
  }
  return false;
}

ByteRange RangeLock::untouched_part(ByteRange range) const {
  if (only(0, range)) return range;
  std::uint64_t end = range.end();
  for (const Entry& entry : entries_) {
    if (entry.passes || !entry.range.overlaps(range)) continue;
    end = std::min(end, std::max(entry.range.offset, range.offset));
  }
  return {range.offset, end - range.offset};
}

/// True if nothing earlier overlaps.
bool RangeLock::is_first(Place place) const {
  if (only(place->passes ? 0 : 1, place->range)) return true;
  for (auto earlier = entries_.begin(); earlier != entries_.end(); ++earlier) {
    if (&*earlier == &*place) return true;
    if (!earlier->passes && earlier->range.overlaps(place->range)) return false;
  }
  return true;
}

void RangeLock::release(Place place) {
  const ByteRange freed = place->range;
  count(*place, -1);
  if (spare_.size() < kSpareNodes) {
    spare_.splice(spare_.begin(), entries_, place);
  } else {
    entries_.erase(place);
  }
  if (waiting_ == 0) return;
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!entry->waiter || !entry->range.overlaps(freed) || !is_first(entry)) continue;
    --waiting_;
    loop_.defer(std::exchange(entry->waiter, {}));
  }
}

}  // namespace blockmig

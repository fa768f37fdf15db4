// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/range_lock.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {

RangeLock::~RangeLock() { BM_CHECK(entries_.empty()); }

RangeLock::Awaiter RangeLock::lock(ByteRange range) {
  return Awaiter(*this, entries_.insert(entries_.end(), Entry{range, {}, false}));
}

RangeLock::Passage RangeLock::passed(ByteRange range) {
  return Passage(*this, entries_.insert(entries_.end(), Entry{range, {}, true}));
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
  place->range = outer;
  return Awaiter(*this, place);
}

bool RangeLock::touches(ByteRange range) const {
  for (const Entry& entry : entries_) {
    if (!entry.passes && entry.range.overlaps(range)) return true;
  }
  return false;
}

ByteRange RangeLock::untouched_part(ByteRange range) const {
  std::uint64_t end = range.end();
  for (const Entry& entry : entries_) {
    if (entry.passes || !entry.range.overlaps(range)) continue;
    end = std::min(end, std::max(entry.range.offset, range.offset));
  }
  return {range.offset, end - range.offset};
}

/// True if nothing earlier overlaps.
bool RangeLock::is_first(Place place) const {
  for (auto earlier = entries_.begin(); earlier != entries_.end(); ++earlier) {
    if (&*earlier == &*place) return true;
    if (!earlier->passes && earlier->range.overlaps(place->range)) return false;
  }
  return true;
}

void RangeLock::release(Place place) {
  const ByteRange freed = place->range;
  entries_.erase(place);
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    if (!entry->waiter || !entry->range.overlaps(freed) || !is_first(entry)) continue;
    loop_.defer(std::exchange(entry->waiter, {}));
  }
}

}  // namespace blockmig

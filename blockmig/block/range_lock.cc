// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/range_lock.h"

#include "blockmig/base/check.h"

namespace blockmig {

RangeLock::~RangeLock() { BM_CHECK(entries_.empty()); }

RangeLock::Awaiter RangeLock::lock(ByteRange range) {
  return Awaiter(*this, entries_.insert(entries_.end(), Entry{range, {}}));
}

bool RangeLock::touches(ByteRange range) const {
  for (const Entry& entry : entries_) {
    if (entry.range.overlaps(range)) return true;
  }
  return false;
}

/// True if nothing earlier overlaps.
bool RangeLock::is_first(Place place) const {
  for (auto earlier = entries_.begin(); earlier != entries_.end(); ++earlier) {
    if (&*earlier == &*place) return true;
    if (earlier->range.overlaps(place->range)) return false;
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

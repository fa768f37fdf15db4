// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/mark_shard.h"

#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {

void MarkShard::lock() {
  while (locked_.test_and_set(std::memory_order_acquire)) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
}

void MarkShard::log(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  lock();
  if (granularity_bytes_ != 0) {
    if (marks_.ranges.size() >= kLogRanges) {
      if (marks_.folded == nullptr) {
        auto bitmap = DirtyBitmap::create(size_bytes_, granularity_bytes_);
        BM_CHECK(bitmap.ok());  // a bitmap of this size and granularity is attached
        marks_.folded = *std::move(bitmap);
      }
      for (const ByteRange& range : marks_.ranges) {
        marks_.folded->mark(range.offset, range.length);
      }
      marks_.ranges.clear();
    }
    marks_.ranges.push_back({offset, length});
    pending_.store(true, std::memory_order_seq_cst);
  }
  unlock();
}

void MarkShard::record(std::uint64_t size_bytes, std::uint32_t granularity_bytes) {
  Marks none;
  none.ranges.reserve(kLogRanges);
  lock();
  size_bytes_ = size_bytes;
  granularity_bytes_ = granularity_bytes;
  if (marks_.ranges.capacity() == 0) std::swap(marks_, none);
  unlock();
  recording_.store(true, std::memory_order_seq_cst);
}

void MarkShard::stop_recording() {
  recording_.store(false, std::memory_order_seq_cst);
  lock();
  granularity_bytes_ = 0;
  unlock();
}

MarkShard::Marks MarkShard::take() {
  Marks taken;
  taken.ranges.reserve(kLogRanges);
  lock();
  std::swap(marks_, taken);
  pending_.store(false, std::memory_order_seq_cst);
  unlock();
  return taken;
}

}  // namespace blockmig

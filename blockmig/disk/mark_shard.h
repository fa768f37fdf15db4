// SPDX-License-Identifier: Apache-2.0
// MarkShard: the dirty marks of one thread, until the disk's loop takes them.
//
// Roaring bitmaps belong to the disk's loop. A thread that serves writes itself logs their ranges
// here, in a few nanoseconds, and the loop takes them before it asks any of its bitmaps
// (PendingMarks). A full log is folded into a bitmap of the finest granularity in use, so memory is
// bounded by a bitmap and the log. Nothing is recorded while no bitmap is attached.
//
// Thread rule: mark() on the shard's thread; the rest on the disk's loop. A spin lock is held for a
// few nanoseconds by either side (and for one folding of the log by the shard's thread).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/bytes.h"

namespace blockmig {

class MarkShard final {
 public:
  /// Ranges logged before they are folded.
  static constexpr std::size_t kLogRanges = 4096;

  MarkShard() = default;
  MarkShard(const MarkShard&) = delete;
  MarkShard& operator=(const MarkShard&) = delete;

  /// Records a write, before it is submitted and again when it has ended (I5).
  void mark(std::uint64_t offset, std::uint64_t length) {
    if (recording_.load(std::memory_order_seq_cst)) log(offset, length);
  }

  /// From now on marks are recorded; what the log cannot hold, in chunks of `granularity_bytes`.
  void record(std::uint64_t size_bytes, std::uint32_t granularity_bytes);
  void stop_recording();
  /// True if take() would find something.
  bool pending() const { return pending_.load(std::memory_order_seq_cst); }
  struct Marks {
    std::vector<ByteRange> ranges;
    std::unique_ptr<DirtyBitmap> folded;  ///< null if the log sufficed
  };
  Marks take();

 private:
  void log(std::uint64_t offset, std::uint64_t length);
  void lock();
  void unlock() { locked_.clear(std::memory_order_release); }

  std::atomic<bool> recording_ = false;
  std::atomic<bool> pending_ = false;
  std::atomic_flag locked_ = ATOMIC_FLAG_INIT;
  // Under the lock:
  std::uint64_t size_bytes_ = 0;
  std::uint32_t granularity_bytes_ = 0;
  Marks marks_;
};

}  // namespace blockmig

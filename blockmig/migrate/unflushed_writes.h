// SPDX-License-Identifier: Apache-2.0
// UnflushedWrites: which chunks a target has taken and not made durable since.
//
// A flush that works covers what had been answered when it was submitted. After one that failed, or
// a connection that broke, what no flush has covered may be gone, though later flushes work and
// reads still show it (I11): it is dirty again.
//
// Of flushes that overlap in time only the first is followed; the others clear nothing, so that at
// worst too much is taken for lost. Pure. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <memory>

#include "bitmap/dirty_bitmap.h"

namespace blockmig {

class UnflushedWrites final {
 public:
  /// Errors as DirtyBitmap::create().
  static Result<std::unique_ptr<UnflushedWrites>> create(std::uint64_t size_bytes,
                                                         std::uint32_t granularity_bytes);

  /// A write was answered.
  void taken(std::uint64_t offset, std::uint64_t length) { since_->mark(offset, length); }
  /// A flush is submitted; its number for flush_worked(), 0 for one that is not followed.
  std::uint64_t flush_begins();
  void flush_worked(std::uint64_t number);
  /// The flush under way will not be heard of any more, or failed.
  void flush_ended(std::uint64_t number);
  /// Marks in `dirty` what may be gone, and forgets it. Bytes marked anew, at most.
  std::uint64_t lose_into(DirtyBitmap& dirty);

  std::uint64_t bytes() const { return since_->dirty_bytes() + covered_->dirty_bytes(); }

 private:
  UnflushedWrites(std::unique_ptr<DirtyBitmap> since, std::unique_ptr<DirtyBitmap> covered)
      : since_(std::move(since)), covered_(std::move(covered)) {}

  std::unique_ptr<DirtyBitmap> since_;    ///< answered since the flush under way was submitted
  std::unique_ptr<DirtyBitmap> covered_;  ///< answered before it
  std::uint64_t last_number_ = 0;
  std::uint64_t followed_ = 0;  ///< the flush under way; 0: none
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// DirtyBitmap: which chunks of a disk have changed.
//
// One bit per chunk of `granularity_bytes` (a power of two, 4 KiB … 1 MiB). The last chunk may be
// short. Sets are Roaring bitmaps (Lemire et al. 2018), hidden inside.
//
// mark() is on the data path: an exact filter of already-dirty chunks answers the common case in a
// few nanoseconds, and only the first mark of a chunk reaches an append log that is folded into
// Roaring when it is full or somebody asks. All results are exact at every call.
//
// Taking chunks to copy is lease(): it clears them and remembers them; what was not acknowledged
// when the lease is destroyed is dirty again (I6).
//
// A chunk marked again while it is leased is dirty at once and stays so, whatever becomes of the
// lease. Leases may overlap in time; a chunk is in at most one of them unless it was marked in
// between.
//
// Thread rule: one thread at a time, const functions included. A lease that holds chunks must not
// outlive its bitmap (checked). Offsets and lengths must lie within the disk (checked).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "bitmap/dirty_filter.h"
#include "bitmap/pending_marks.h"
#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"
#include "blockmig/base/error.h"
#include "blockmig/base/planted.h"

namespace blockmig {

inline constexpr std::uint32_t kMinGranularityBytes = 4 * 1024;
inline constexpr std::uint32_t kMaxGranularityBytes = 1024 * 1024;
inline constexpr std::uint32_t kDefaultGranularityBytes = 64 * 1024;

class DirtyBitmap;

/// Chunks taken for copying. Movable; acknowledges chunk by chunk.
class [[nodiscard]] DirtyLease final {
 public:
  DirtyLease();
  DirtyLease(DirtyLease&&) noexcept;
  DirtyLease& operator=(DirtyLease&&) noexcept;
  ~DirtyLease();  ///< marks again what was not acknowledged

  bool empty() const;
  /// The chunk indices taken, ascending; constant for the lease's life.
  const std::vector<std::uint32_t>& chunks() const;
  /// The byte range of chunks()[i]: short at the end of the disk.
  ByteRange range(std::size_t i) const;
  /// The target holds chunk chunks()[i] as it was read after the lease was taken. Once or more.
  void acknowledge(std::size_t i);
  void acknowledge_all();
  std::size_t unacknowledged() const;

 private:
  friend class DirtyBitmap;
  struct State;
  explicit DirtyLease(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

class DirtyBitmap final {
 public:
  /// All clean. kInvalid: granularity not a power of two in range, or more than 2^32 chunks.
  static Result<std::unique_ptr<DirtyBitmap>> create(std::uint64_t size_bytes,
                                                     std::uint32_t granularity_bytes);
  ~DirtyBitmap();
  DirtyBitmap(const DirtyBitmap&) = delete;
  DirtyBitmap& operator=(const DirtyBitmap&) = delete;

  std::uint64_t size_bytes() const { return size_bytes_; }
  std::uint32_t granularity_bytes() const { return std::uint32_t{1} << shift_; }
  std::uint64_t chunk_count() const { return filter_.chunk_count(); }
  /// `chunk` < chunk_count(), as everywhere here.
  ByteRange chunk_range(std::uint64_t chunk) const;

  /// Marks every chunk that [offset, offset+length) touches. A few nanoseconds when already dirty.
  void mark(std::uint64_t offset, std::uint64_t length) {
    BM_CHECK(fits(offset, length, size_bytes_));
    if (length == 0) return;
    const std::uint64_t first = offset >> shift_;
    std::uint64_t end = ((offset + length - 1) >> shift_) + 1;
    if (planted(PlantedBug::kMarkRoundsDown)) end = (offset + length) >> shift_;
    if (end - first == 1 && filter_.test(first)) return;
    mark_chunks(first, end);
  }
  void mark_all();
  /// Clears only chunks that lie wholly inside the range (the disk's end counts as a chunk's end):
  /// never rounds up over a neighbour's dirt (trap 6).
  void clear(std::uint64_t offset, std::uint64_t length);
  void clear_all();

  /// Marks of other threads, delivered before each answer and each lease; null for none.
  void set_pending(PendingMarks* pending) { pending_ = pending; }

  bool is_dirty(std::uint64_t chunk) const {
    BM_CHECK(chunk < filter_.chunk_count());
    catch_up();
    return filter_.test(chunk);
  }
  /// True if any chunk that the range touches is dirty; an empty range touches none.
  bool any_dirty(std::uint64_t offset, std::uint64_t length) const;
  /// In chunks; O(1).
  std::uint64_t dirty_count() const {
    catch_up();
    return filter_.count();
  }
  /// In bytes, the short tail chunk counted with its real length; O(1).
  std::uint64_t dirty_bytes() const;
  /// First dirty chunk >= `from`, if any. `from` may lie beyond the end.
  std::optional<std::uint64_t> next_dirty(std::uint64_t from) const;

  /// Clears and takes up to `max_chunks` dirty chunks, ascending from `from_chunk` (no wrap).
  DirtyLease lease(std::uint64_t from_chunk, std::size_t max_chunks);
  /// Clears and takes exactly these chunks, in any order; those that are not dirty are left out.
  DirtyLease lease_chunks(const std::vector<std::uint32_t>& chunks);

  /// Adds every chunk of `other` (same size; any granularity: finer or coarser rounds outwards).
  void merge(const DirtyBitmap& other);

  /// Clears the chunks that are dirty in `other` (same size), which costs what both have in runs.
  void subtract(const DirtyBitmap& other);

  /// Blocks of 32,768 chunks, in words: for whom chunk by chunk is too slow.
  using Block = DirtyFilter::Block;
  std::size_t block_count() const { return filter_.block_count(); }
  /// Sets in `into` what is dirty in the block.
  void add_block(std::size_t block, Block& into) const {
    catch_up();
    filter_.add_block(block, into);
  }
  /// Makes the block in `into`, of as many chunks, what is dirty.
  void copy_block_to(std::size_t block, DirtyFilter& into) const {
    catch_up();
    into.copy_block(block, filter_);
  }
  /// Sets in `into`, of as many chunks, what is dirty in the block.
  void merge_block_to(std::size_t block, DirtyFilter& into) const {
    catch_up();
    into.merge_block(block, filter_);
  }
  /// Makes the block what it is in `other` (same size and granularity); costs what differs. False:
  /// nothing does.
  bool copy_block(std::size_t block, const DirtyBitmap& other);

  /// Dirty and clean runs that cover [offset, offset+length) without gaps, in bytes, cut to the
  /// range: what qemu:dirty-bitmap:NAME reports. At most `max_runs`, so perhaps not to the range's
  /// end.
  struct Run {
    ByteRange range;
    bool dirty = false;
    friend bool operator==(const Run&, const Run&) = default;
  };
  std::vector<Run> runs(std::uint64_t offset, std::uint64_t length, std::size_t max_runs) const;

  /// Bytes of memory held, all parts counted; leases are not.
  std::size_t memory_bytes() const;

 private:
  friend class DirtyLease;
  friend class BitmapCodec;
  struct State;
  DirtyBitmap(std::uint64_t size_bytes, std::uint32_t granularity_bytes);

  /// [first, end); nothing if empty.
  void mark_chunks(std::uint64_t first, std::uint64_t end);
  void clear_chunks(std::uint64_t first, std::uint64_t end);
  /// Clears `chunks` (ascending, all dirty) and hands them out.
  DirtyLease take(std::vector<std::uint32_t> chunks);
  void catch_up() const {
    if (pending_ != nullptr) pending_->deliver();
  }
  /// Brings Roaring up to date with the log.
  void fold() const;

  const std::uint64_t size_bytes_;
  const unsigned shift_;          ///< log2 of the granularity
  DirtyFilter filter_;            ///< exact; what every question but lease and encode is asked
  std::unique_ptr<State> state_;  ///< Roaring and the log
  PendingMarks* pending_ = nullptr;
};

}  // namespace blockmig

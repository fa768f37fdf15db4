// SPDX-License-Identifier: Apache-2.0
// MappedPages: which pages of a mapped file may be copied from and to on the spot.
//
// Touching a mapped page may block: it may have to be read from the disk, or the filesystem asked
// for leave to write (the first write to a page after it was written back takes a fault, and may
// wait for the journal or, in a hole, for room). So pages are used only where that is known not to
// happen. Nothing here is about correctness: a page that is touched too early blocks for a moment,
// and one that cannot be had ends the copy (fault_guard.h); the caller then uses pread or pwrite.
//
// For each unit of 64 pages (256 KiB) two masks are kept:
//  - readable: in memory and in the page tables. A unit that has been read often enough elsewhere
//    is looked at (mincore) and its page tables are filled in for what is in memory. Looked at
//    again about once a second, when it is used, since the kernel may have reclaimed pages.
//  - writable: allocated, dirty and in the page tables for writing. The page cache keeps pages in
//    groups of up to 512 (2 MiB), which are dirtied whole; so leave to write is earned, and given,
//    by aligned groups of that size: by being written often enough elsewhere since the last flush.
//    Asking for several writes first bounds what write-back has to write for nothing, and makes
//    sure that it pays. A group with a hole gets no leave: the hole stays one, and a full disk is
//    pwrite's business. A flush takes the leave away everywhere. Write-back in the background takes
//    it away unseen: copies that took longer than a copy should say so, and their group starts
//    again.
//
// Page tables are filled for a bounded number of units; a unit that was not used in the last second
// makes room for another.
//
// `generation` is the caller's clock: a number that grows by one about every second.
// Thread rule: any thread; construction and destruction apart.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/block/file_mapping.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class MappedPages final {
 public:
  /// Small reads elsewhere that earn a unit its page tables, and small writes that earn a group
  /// leave; large ones count more.
  static constexpr std::uint32_t kReadTouches = 8;
  static constexpr std::uint32_t kWriteTouches = 64;
  /// Slow copies within a generation that cost a group its leave: one or two may have lost the
  /// processor to another thread.
  static constexpr std::uint32_t kSlowCopies = 3;
  /// 32 GiB in page tables of 64 MiB, where units are neighbours.
  static constexpr std::size_t kMaxUnits = std::size_t{128} * 1024;
  static constexpr std::uint64_t kUnitPages = FileMapping::kMaskPages;
  /// The largest group of pages that the page cache treats as one, naturally aligned.
  static constexpr std::uint64_t kGroupPages = 512;

  /// `fd` is the mapped file's, and stays open as long; `has_holes`: a page may be in memory
  /// without being allocated on the medium, as in most regular files. kNoMemory where the table of
  /// units cannot be had.
  static Result<std::unique_ptr<MappedPages>> create(std::unique_ptr<FileMapping> mapping, int fd,
                                                     bool has_holes,
                                                     std::size_t max_units = kMaxUnits);
  ~MappedPages();
  MappedPages(const MappedPages&) = delete;
  MappedPages& operator=(const MappedPages&) = delete;

  /// True when done. False: not known to be possible without waiting, or a page could not be had.
  [[nodiscard]] bool read(std::uint64_t offset, MutableBytes into, std::uint32_t generation);
  /// The same. False: nothing, or a part, was written.
  [[nodiscard]] bool write(std::uint64_t offset, ConstBytes from, std::uint32_t generation);

  /// The range's bytes in the mapping; none where they may not be touched now. A system call that
  /// is given them may fail with EFAULT; everybody else copies by copy_guarded().
  ConstBytes readable(ByteRange range, std::uint32_t generation);
  MutableBytes writable(ByteRange range, std::uint32_t generation);

  /// The range was read, or written, through the page cache by a call: a vote for its pages.
  /// Sometimes this looks at the pages and fills page tables, which for writing may block as a
  /// write does.
  void was_read(ByteRange range, std::uint32_t generation);
  void was_written(ByteRange range, std::uint32_t generation);
  /// write() of the range took so long.
  void copied(ByteRange range, Duration took, std::uint32_t generation);
  /// The range is being deallocated, or has been.
  void forget(ByteRange range);
  /// The file is being synced: no page stays writable.
  void cleaned() { epoch_.fetch_add(1, std::memory_order_relaxed); }

  std::uint64_t unit_bytes() const { return kUnitPages * mapping_->page_bytes(); }
  /// Units whose page tables are filled.
  std::size_t attached_units() const;

 private:
  struct alignas(64) Unit {
    std::atomic<std::uint64_t> readable;
    std::atomic<std::uint64_t> writable;    ///< valid in `epoch`
    std::atomic<std::uint32_t> generation;  ///< when it was last looked at
    std::atomic<std::uint32_t> epoch;
    std::atomic<std::uint32_t> reads;  ///< elsewhere
    // A group's, kept in its first unit.
    std::atomic<std::uint32_t> writes;        ///< elsewhere, in `writes_epoch`
    std::atomic<std::uint32_t> writes_epoch;  ///< zero: none yet
    std::atomic<std::uint32_t> slow;          ///< copies, in `slow_generation`
    std::atomic<std::uint32_t> slow_generation;
    std::atomic<std::uint32_t> granted_generation;  ///< when it last got leave
    bool attached;                                  ///< under mutex_
  };
  struct Part {
    std::uint64_t unit;
    std::uint64_t mask;  ///< the pages of it
  };

  MappedPages(std::unique_ptr<FileMapping> mapping, int fd, bool has_holes, std::size_t max_units,
              Unit* units, std::size_t count);

  static constexpr std::uint64_t kGroupUnits = kGroupPages / kUnitPages;
  Unit& first_of_group(std::uint64_t unit) { return units_[align_down(unit, kGroupUnits)]; }

  template <typename Visit>
  void for_parts(ByteRange range, Visit visit);
  bool may_touch(ByteRange range, std::uint32_t generation, bool for_writing);
  bool may_touch_part(const Part& part, std::uint32_t generation, bool for_writing);
  void look_again(std::uint64_t unit, std::uint32_t generation);
  void make_readable(std::uint64_t unit, std::uint32_t generation);
  void make_writable(std::uint64_t group, std::uint32_t generation, std::uint32_t epoch);
  void take_leave_away(ByteRange range);
  bool attach(std::uint64_t unit, std::uint32_t generation);
  void detach(std::uint64_t unit);
  std::uint64_t populate(std::uint64_t unit, std::uint64_t pages, bool for_writing);
  ByteRange groups_around(ByteRange range) const;

  std::unique_ptr<FileMapping> mapping_;
  const int fd_;
  const bool has_holes_;
  const std::size_t max_units_;
  Unit* const units_;
  const std::size_t count_;
  std::atomic<std::uint32_t> epoch_{1};
  /// Added to the caller's clock: a step makes every unit be looked at again.
  std::atomic<std::uint32_t> extra_generations_{0};
  mutable std::mutex mutex_;             ///< tried, never waited for, on the path of requests
  std::vector<std::uint64_t> attached_;  ///< units, under mutex_
  std::size_t hand_ = 0;                 ///< where the next search for room begins, under mutex_
};

}  // namespace blockmig

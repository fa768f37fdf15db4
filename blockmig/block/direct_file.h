// SPDX-License-Identifier: Apache-2.0
// DirectFile: reads and writes of any offset, length and buffer through O_DIRECT.
//
// Aligned requests go straight to the medium. Others go through an aligned bounce buffer; writes
// then read, modify and write whole blocks, under a lock of the blocks' range that every write
// takes, so that neighbours in one block do not undo each other (trap 8).
//
// Where the size is not a multiple of the alignment, the last part of the file cannot be reached by
// O_DIRECT without growing the file, and growing and cutting it back would leave a wrong size after
// a crash. That part, from the last 4 KiB boundary on, goes through the page cache instead, on a
// descriptor of its own. No page is ever used both ways: the split is at a page boundary, and the
// two paths keep to their side of it. fdatasync covers both. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/block/bounce_pool.h"
#include "blockmig/block/file_io.h"
#include "blockmig/block/open_file.h"
#include "blockmig/block/range_lock.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

class DirectFile final {
 public:
  /// `io`, `file` and `name` outlive it.
  DirectFile(IoLoop& loop, FileIo& io, const OpenedFile& file, const std::string& name);

  Task<Status> read(std::uint64_t offset, MutableBytes into);
  Task<Status> write(std::uint64_t offset, ConstBytes from, bool durable);
  /// Part of the range goes through the page cache, which does not keep a reader of a sector from
  /// its writer: for the caller to do.
  bool through_cache(ByteRange range) const { return range.end() > tail_begin_; }
  /// For what changes whole blocks by other means (fallocate): keeps writes of the range's blocks
  /// out.
  RangeLock::Awaiter lock(ByteRange range);

  /// Bytes of one bounce buffer.
  static constexpr std::uint64_t kBounceBytes = kMiB;

 private:
  std::uint64_t align_of() const { return file_.offset_alignment; }
  ByteRange blocks_of(ByteRange range) const;
  bool straight(std::uint64_t offset, const std::byte* data, std::uint64_t length) const;
  std::uint64_t piece_end(std::uint64_t offset, std::uint64_t end) const;
  Task<Status> read_bounced(std::uint64_t offset, MutableBytes into);
  Task<Status> write_bounced(std::uint64_t offset, ConstBytes from, bool durable);
  Task<Status> load_edges(ByteRange blocks, ByteRange range, MutableBytes buffer);

  FileIo& io_;
  const OpenedFile& file_;
  const std::string& name_;
  std::uint64_t
      tail_begin_;  ///< from here on through the page cache; the size where there is no tail
  RangeLock locks_;
  BouncePool bounces_;
};

}  // namespace blockmig

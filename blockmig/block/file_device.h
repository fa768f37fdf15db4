// SPDX-License-Identifier: Apache-2.0
// FileDevice: a raw file or a block device of the kernel.
//
// What is in the page cache is served on the spot (preadv2/pwritev2 with RWF_NOWAIT, or plain calls
// whose cost is watched where the filesystem refuses NOWAIT); misses go to the loop's asynchronous
// I/O, so the loop is not blocked. A file whose filesystem may hang (hung_filesystem.h) is never
// served on the spot, and has threads of its own. Extents come from SEEK_HOLE/SEEK_DATA on a
// blocking thread. An exclusive lock on the file keeps a second process out. Of calls that overlap
// none is believed to be durable whose loss another may have been told of (sync_group.h,
// durable_writes.h). Thread rule: one loop; read_now(), write_now(), lend_now() and fill_now() from
// any thread until close().
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/block/block_device.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

enum class CacheMode {
  kBuffered,  ///< page cache
  kDirect,    ///< O_DIRECT; unaligned requests are read-modify-written in an aligned bounce buffer
  /// Page cache, and copies straight from and to it where its pages are mapped and at hand
  /// (mapped_pages.h). Fastest for small requests; write-back may write more than was written. As
  /// kBuffered where the filesystem may hang (DeviceInfo::may_hang).
  kMap,
};

struct FileDeviceOptions {
  CacheMode cache = CacheMode::kBuffered;
  bool read_only = false;
  /// Create the file, or require it to have this size (a block device: at least); 0 = it must
  /// exist.
  std::uint64_t create_size_bytes = 0;
  /// Refuse an existing file (with create_size_bytes).
  bool exclusive_create = false;
  /// Take the locks of image_lock.h: exclusive, shared when read-only. Without them a block device
  /// is not claimed either.
  bool lock = true;
  /// Serve inline from the page cache. Off for a migration's target: its writes must never block
  /// the loop.
  bool inline_io = true;
};

/// kNotFound, kBusy (another process has it), kNoSpace, kPrecondition (exists, or its size
/// differs), kInvalid (a folder, a FIFO …), kNotSupported (no direct I/O here, or no mapping),
/// kReadOnly (no permission). Messages name the path. A file that was created is durable under its
/// name when the task finishes (I1); one that was created and then fails is removed. `path` and
/// `options` outlive the task.
Task<Result<std::unique_ptr<BlockDevice>>> open_file_device(IoLoop& loop, const std::string& path,
                                                            const FileDeviceOptions& options);

}  // namespace blockmig

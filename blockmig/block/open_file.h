// SPDX-License-Identifier: Apache-2.0
// Opening a raw file or a block device: the part of FileDevice that may block for as long as a dead
// network filesystem likes. Runs on a blocking thread; values in, values out.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/block/file_device.h"
#include "blockmig/block/mapped_pages.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

/// An open file with its locks held and what FileDevice must know about it.
struct OpenedFile {
  UniqueFd fd;  ///< carries the locks; O_DIRECT in direct mode
  UniqueFd
      buffered_fd;  ///< direct mode with an odd-sized tail: the same file through the page cache
  /// The same file again, for flushes alone: it has an error report of its own (sync_group.h). Not
  /// open when read-only. It holds no lock, so closing it drops none.
  UniqueFd sync_fd;
  /// Map mode, unless the file is empty or may hang.
  std::unique_ptr<MappedPages> pages;
  std::uint64_t size_bytes = 0;
  bool block_device = false;
  bool may_hang = false;  ///< hung_filesystem.h
  bool created = false;   ///< by us, just now: reads as zeros
  bool can_punch = false;
  // Direct mode: what the medium requires of offsets and lengths, and of buffers. Powers of two.
  std::uint32_t offset_alignment = 1;
  std::uint32_t memory_alignment = 1;
};

/// Errors as open_file_device(). A file that it created is removed again if it then fails. Created
/// files are durable, their folder's entry too, when it returns.
Result<OpenedFile> open_file(const std::string& path, const FileDeviceOptions& options);

/// Opens the file behind `fd` anew: with a position, flags and an error report of its own. Not
/// open: see errno.
UniqueFd reopen(int fd, int flags);

/// What a FileDevice of it tells.
DeviceInfo info_of(const OpenedFile& file, const std::string& path,
                   const FileDeviceOptions& options);

/// Tells a block device that the range is not needed. 0, or an errno.
int discard(int fd, ByteRange range);

}  // namespace blockmig

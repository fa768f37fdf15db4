// SPDX-License-Identifier: Apache-2.0
// open_store: the device behind a store's URI. Thread rule: the loop that it is given; what blocks
// runs on its blocking threads.
#pragma once

#include <cstdint>
#include <memory>

#include "blockmig/base/uri.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/file_device.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

struct OpenStoreOptions {
  bool read_only = false;
  /// Files: create it, or require it to have this size; 0 = it must exist. An NBD export always
  /// exists: it must be at least this large.
  std::uint64_t create_size_bytes = 0;
  CacheMode cache = CacheMode::kBuffered;  ///< files
  bool inline_io = true;                   ///< files; off for a migration's target
  std::uint32_t connections = 4;           ///< NBD
};

/// A null store (uri.h) has the size that its URI gives. Errors as open_file_device() and
/// open_nbd_device(); kPrecondition where the size is wrong. The arguments outlive the task.
Task<Result<std::unique_ptr<BlockDevice>>> open_store(IoLoop& loop, const StoreUri& uri,
                                                      const OpenStoreOptions& options);

}  // namespace blockmig

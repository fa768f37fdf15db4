// SPDX-License-Identifier: Apache-2.0
// open_store: the device behind a store's URI. Thread rule: the loop that it is given; what blocks
// runs on its blocking threads.
#pragma once

#include <memory>

#include "blockmig/base/uri.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/file_device.h"
#include "blockmig/block/nbd_device.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

struct OpenStoreOptions {
  FileDeviceOptions file;  ///< of a null store what it can follow: the size at least, read-only
  NbdDeviceOptions nbd;
};

/// A null store (uri.h) has the size that its URI gives. Errors as open_file_device() and
/// open_nbd_device(). The arguments outlive the task.
Task<Result<std::unique_ptr<BlockDevice>>> open_store(IoLoop& loop, const StoreUri& uri,
                                                      const OpenStoreOptions& options);

}  // namespace blockmig

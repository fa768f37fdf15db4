// SPDX-License-Identifier: Apache-2.0
// Allocation of a file by lseek(2) SEEK_DATA and SEEK_HOLE. Thread rule: any; blocks, so call it
// off the loop (is_allocated() blocks as much as a write does).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"

namespace blockmig {

/// Extents as BlockDevice::extents() promises them. Where the filesystem cannot tell, everything is
/// data.
Result<std::vector<Extent>> scan_file_extents(int fd, std::uint64_t offset, std::uint64_t length,
                                              const std::string& name);

/// True if the filesystem says that it has room for every byte of the range set aside (FIEMAP):
/// writing there needs none. False where it does not say.
bool is_allocated(int fd, ByteRange range);

}  // namespace blockmig

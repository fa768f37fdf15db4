// SPDX-License-Identifier: Apache-2.0
// Allocation of a file by lseek(2) SEEK_DATA and SEEK_HOLE. Blocks: call it off the loop.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"

namespace blockmig {

/// Extents as BlockDevice::extents() promises them. Where the filesystem cannot tell, everything is
/// data.
Result<std::vector<Extent>> scan_file_extents(int fd, std::uint64_t offset, std::uint64_t length,
                                              const std::string& name);

}  // namespace blockmig

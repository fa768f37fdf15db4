// SPDX-License-Identifier: Apache-2.0
// Which filesystems can hang for reasons outside this machine, or outside its kernel: those of a
// network or a cluster, and those that a process serves. A call on a file there may never return,
// page faults of a mapping included, and no signal ends it.
#pragma once

#include <cstdint>

namespace blockmig {

/// `type`: statfs(2)'s f_type.
bool filesystem_may_hang(std::uint32_t type);

/// Of an open file. False where the kernel does not say. May block.
bool file_may_hang(int fd);

}  // namespace blockmig

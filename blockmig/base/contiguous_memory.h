// SPDX-License-Identifier: Apache-2.0
// Memory of the process that is contiguous for devices too, where the kernel has a huge page to
// give: a disk is told the physical pieces of a request one by one, and a request of 64 KiB in
// scattered pages has sixteen. (Linux: Documentation/admin-guide/mm/transhuge.rst, madvise(2).)
#pragma once

#include <cstddef>

#include "blockmig/base/bytes.h"

namespace blockmig {

/// What one piece of contiguous memory has, and its alignment.
inline constexpr std::size_t kContiguousBytes = 2 * kMiB;

/// kContiguousBytes of zeros, one huge page if the kernel has one when it is touched, else usual
/// pages. Throws std::bad_alloc. Any thread.
std::byte* map_contiguous();
/// Gives memory of map_contiguous() back, all or whole pages of it.
void unmap_contiguous(std::byte* memory, std::size_t bytes);

}  // namespace blockmig

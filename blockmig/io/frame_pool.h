// SPDX-License-Identifier: Apache-2.0
// Memory for coroutine frames: per-thread free lists by size class, so that starting a task costs a
// few nanoseconds. Under AddressSanitizer it is plain malloc, so that a use after free is seen.
// Thread rule: any thread; a frame freed on another thread joins that thread's list.
#pragma once

#include <cstddef>

namespace blockmig {

void* allocate_frame(std::size_t bytes);
void free_frame(void* frame, std::size_t bytes) noexcept;

}  // namespace blockmig

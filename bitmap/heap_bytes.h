// SPDX-License-Identifier: Apache-2.0
// What an allocation costs in truth: memory_bytes() of this folder counts with it, because many
// small blocks are a good part overhead. The rule is that of the usual 64-bit allocators (glibc's):
// eight bytes of header, steps of sixteen, at least 32. Pure.
#pragma once

#include <algorithm>
#include <cstddef>

#include "blockmig/base/bytes.h"

namespace blockmig {

constexpr std::size_t heap_bytes(std::size_t asked_bytes) {
  return std::max<std::size_t>(32, align_up(asked_bytes + 8, 16));
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The parts of a DirtyBitmap that its public header does not show. Included by this folder's
// sources only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "bitmap/chunk_set.h"
#include "bitmap/dirty_bitmap.h"

namespace blockmig {

/// First marks that wait to be folded into Roaring, which is what a single mark() may cost at
/// worst: tens of microseconds where they are near each other, up to a millisecond where each of
/// them is in another part of a disk of many TiB.
inline constexpr std::size_t kMarkLogChunks = 1024;

/// The filter equals set ∪ log at every moment; removals fold the log first.
struct DirtyBitmap::State {
  State() { log.reserve(kMarkLogChunks); }

  ChunkSet set;
  std::vector<std::uint32_t> log;  ///< unordered; a chunk may be in the set already
  std::size_t live_leases = 0;
};

}  // namespace blockmig

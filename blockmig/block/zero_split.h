// SPDX-License-Identifier: Apache-2.0
// How a range to be zeroed or trimmed divides into whole blocks, which the filesystem can
// deallocate, and the parts of blocks around them, which must be written. Pure.
#pragma once

#include <cstdint>

#include "blockmig/base/bytes.h"

namespace blockmig {

struct ZeroSplit {
  ByteRange head;    ///< part of a block before
  ByteRange middle;  ///< whole blocks; may end behind the file's end, at the end of its last block
  ByteRange tail;    ///< part of a block behind
};

/// `block` is a power of two. `end_is_block_end`: the file's end counts as the end of a block,
/// because the filesystem owns the rest of it (regular files); then `size` is the file's.
ZeroSplit split_for_zeroing(ByteRange range, std::uint64_t size, std::uint64_t block,
                            bool end_is_block_end);

}  // namespace blockmig

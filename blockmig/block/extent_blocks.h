// SPDX-License-Identifier: Apache-2.0
// What a store of blocks tells of its extents, in whole blocks. Pure.
#pragma once

#include <cstdint>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/block/block_device.h"

namespace blockmig {

/// `told` without gaps from asked.offset on, which is where a block begins. Some servers tell more
/// than they were asked for, and some end extents within blocks, where a next question must not
/// begin. A block of which different things are told is a hole, or zero, only if all of it is. One
/// that is not told of to its end is left out, or where it is the first one, counts as data.
/// `block_bytes` is a power of two; `asked` is not empty.
std::vector<Extent> in_whole_blocks(const std::vector<Extent>& told, ByteRange asked,
                                    std::uint32_t block_bytes);

}  // namespace blockmig

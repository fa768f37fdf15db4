// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/extent_blocks.h"

#include <algorithm>

namespace blockmig {

std::vector<Extent> in_whole_blocks(const std::vector<Extent>& told, ByteRange asked,
                                    std::uint32_t block_bytes) {
  std::vector<Extent> blocks;
  Extent open;  // of a block, what is told so far
  for (Extent next : told) {
    if (next.offset >= asked.end()) break;
    next.length = std::min(next.length, asked.end() - next.offset);
    if (open.length > 0) {
      const std::uint64_t taken = std::min(next.length, block_bytes - open.length);
      open = {open.offset, open.length + taken, open.hole && next.hole, open.zero && next.zero};
      next.offset += taken;
      next.length -= taken;
      if (open.length < block_bytes) continue;
      append_extent(blocks, open);
    }
    open = next;
    open.length = next.length % block_bytes;
    open.offset += next.length - open.length;
    next.length -= open.length;
    if (next.length > 0) append_extent(blocks, next);
  }
  if (blocks.empty()) blocks.push_back({asked.offset, block_bytes, false, false});
  return blocks;
}

}  // namespace blockmig

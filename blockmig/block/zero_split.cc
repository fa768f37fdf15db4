// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/zero_split.h"

namespace blockmig {

ZeroSplit split_for_zeroing(ByteRange range, std::uint64_t size, std::uint64_t block,
                            bool end_is_block_end) {
  const std::uint64_t begin = align_up(range.offset, block);
  const bool to_the_end = end_is_block_end && range.end() == size;
  const std::uint64_t stop =
      to_the_end ? align_up(range.end(), block) : align_down(range.end(), block);
  ZeroSplit split;
  if (begin >= stop || begin >= range.end()) {
    split.head = range;
    return split;
  }
  split.head = {range.offset, begin - range.offset};
  split.middle = {begin, stop - begin};
  if (stop < range.end()) split.tail = {stop, range.end() - stop};
  return split;
}

}  // namespace blockmig

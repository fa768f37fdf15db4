// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/block_pattern.h"

#include <algorithm>
#include <cstring>

namespace blockmig::bench {

void BlockPattern::fill(std::uint64_t block, std::uint32_t generation, char* out) const {
  SplitMix words(mix64(block) ^ (std::uint64_t{generation} << 40));
  for (std::uint32_t at = 0; at < block_bytes_; at += 8) {
    const std::uint64_t word = words.next();
    std::memcpy(out + at, &word, std::min<std::size_t>(8, block_bytes_ - at));
  }
}

bool BlockPattern::matches(std::uint64_t block, const char* data) const {
  if (!written(block)) return true;
  std::vector<char> expected(block_bytes_);
  fill(block, generations_[block], expected.data());
  return std::memcmp(expected.data(), data, block_bytes_) == 0;
}

}  // namespace blockmig::bench

// SPDX-License-Identifier: Apache-2.0
// BlockPattern: what nbdload wrote last into each block, and whether a read returned just that.
// At most one request per block may be in flight (busy). Thread rule: one thread.
#pragma once

#include <cstdint>
#include <vector>

namespace blockmig::bench {

class BlockPattern {
 public:
  BlockPattern(std::uint64_t blocks, std::uint32_t block_bytes)
      : block_bytes_(block_bytes), generations_(blocks), busy_(blocks) {}

  bool busy(std::uint64_t block) const { return busy_[block]; }
  void set_busy(std::uint64_t block, bool busy) { busy_[block] = busy; }
  bool written(std::uint64_t block) const { return generations_[block] != 0; }
  std::uint64_t blocks() const { return generations_.size(); }

  /// Fills `out` (a block) with the next content of `block`.
  void next(std::uint64_t block, char* out) { fill(block, ++generations_[block], out); }
  /// True if `data` is the last content written; anything is right in a block never written.
  bool matches(std::uint64_t block, const char* data) const;

 private:
  void fill(std::uint64_t block, std::uint32_t generation, char* out) const;

  std::uint32_t block_bytes_;
  std::vector<std::uint32_t> generations_;
  std::vector<bool> busy_;
};

/// A good 64-bit mix (splitmix64's finaliser).
inline std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// The generator that goes with it.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() { return mix64(state_ += 0x9e3779b97f4a7c15u); }
  /// 0 <= result < limit; the bias is below 2^-20 for every disk. A product is quicker than a
  /// remainder, and a load generator asks for every request.
  std::uint64_t below(std::uint64_t limit) {
    __extension__ using Wide = unsigned __int128;
    return static_cast<std::uint64_t>((Wide{next()} * limit) >> 64);
  }

 private:
  std::uint64_t state_;
};

}  // namespace blockmig::bench

// SPDX-License-Identifier: Apache-2.0
// DirtyFilter: one bit per chunk, dense, in two levels: what the data path asks.
//
// Blocks of 32,768 chunks (2 GiB of disk at 64 KiB) hang off a directory. A block that is all clear
// or all dirty points at one of two shared blocks and owns no memory, so a large disk costs its
// directory (12 bytes per block: 96 KiB for 16 TiB at 64 KiB) plus 4 KiB for each block that is
// mixed; and test() is two loads with no branch. Counts are kept per block, so skipping over what
// is uniform is quick.
//
// Exact at every call. A pure value of memory; one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace blockmig {

class DirtyFilter final {
 public:
  static constexpr unsigned kBlockShift = 15;
  static constexpr std::uint64_t kBlockChunks = 1ULL << kBlockShift;
  static constexpr std::size_t kBlockWords = kBlockChunks / 64;

  /// All clear. `chunk_count` at most 2^32.
  explicit DirtyFilter(std::uint64_t chunk_count);
  ~DirtyFilter();
  DirtyFilter(const DirtyFilter&) = delete;
  DirtyFilter& operator=(const DirtyFilter&) = delete;

  std::uint64_t chunk_count() const { return chunk_count_; }
  /// How many are set; O(1).
  std::uint64_t count() const { return count_; }

  /// `chunk` < chunk_count(), as everywhere here; the caller has checked.
  bool test(std::uint64_t chunk) const {
    const Word* block = blocks_[static_cast<std::size_t>(chunk >> kBlockShift)];
    return (block[(chunk / 64) % kBlockWords] >> (chunk % 64) & 1) != 0;
  }
  /// True if it was clear.
  bool set(std::uint64_t chunk);
  /// [first, end). How many changed.
  std::uint64_t set_range(std::uint64_t first, std::uint64_t end);
  std::uint64_t clear_range(std::uint64_t first, std::uint64_t end);

  /// The first set (clear) chunk in [from, end); `end` if there is none.
  std::uint64_t next_set(std::uint64_t from, std::uint64_t end) const;
  std::uint64_t next_clear(std::uint64_t from, std::uint64_t end) const;

  std::size_t memory_bytes() const;

 private:
  using Word = std::uint64_t;

  std::uint64_t block_capacity(std::size_t block) const;
  bool owned(std::size_t block) const;
  /// The block's words for writing, with memory of its own.
  Word* writable(std::size_t block);
  /// Gives the block's memory back if it became all clear or all set.
  void settle(std::size_t block);
  void make_uniform(std::size_t block, bool set);
  std::uint64_t change_range(std::uint64_t first, std::uint64_t end, bool set);
  std::uint64_t change_in_block(std::size_t block, std::uint64_t first, std::uint64_t end,
                                bool set);
  std::uint64_t next(std::uint64_t from, std::uint64_t end, bool set) const;

  std::uint64_t chunk_count_;
  std::uint64_t count_ = 0;
  std::vector<const Word*> blocks_;
  std::vector<std::uint32_t> counts_;  ///< set chunks of each block
  std::size_t owned_blocks_ = 0;
};

}  // namespace blockmig

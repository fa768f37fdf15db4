// SPDX-License-Identifier: Apache-2.0
// DirtyFilter: which chunks are set, in two levels: what the data path asks.
//
// Blocks of 32,768 chunks (2 GiB of disk at 64 KiB) hang off a directory. A block that is all clear
// or all set points at one of two shared blocks and owns no memory, so a large disk costs its
// directory (12 bytes per block: 96 KiB for 16 TiB at 64 KiB). A mixed block is dense, one bit per
// chunk in 4 KiB, where test() is two loads and a bit; or sparse (sparse_block.h), about one byte
// per set chunk:
//
//   - while fewer than kDenseAnyway blocks are dense, every mixed block is dense: a disk of 64 GiB
//     at 64 KiB has no other kind;
//   - after that a block starts sparse, becomes dense when it would hold more than
//     SparseBlock::kMaxChunks, and sparse again when it falls to kSparseAgain.
//
// Counts are kept per block, so skipping over what is uniform is quick.
//
// Exact at every call. A pure value of memory; one thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "bitmap/sparse_block.h"

namespace blockmig {

class DirtyFilter final {
 public:
  static constexpr unsigned kBlockShift = 15;
  static constexpr std::uint64_t kBlockChunks = 1ULL << kBlockShift;
  static constexpr std::size_t kBlockWords = kBlockChunks / 64;
  /// The chunks of a block: bit i % 64 of word i / 64.
  using Block = std::array<std::uint64_t, kBlockWords>;
  /// So many dense blocks, 128 KiB, are cheap enough whatever they hold.
  static constexpr std::size_t kDenseAnyway = 32;
  /// Well below kMaxChunks: a block at the border does not change its form with every mark.
  static constexpr std::uint32_t kSparseAgain = SparseBlock::kMaxChunks / 2;

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
    const BlockRef block = blocks_[static_cast<std::size_t>(chunk >> kBlockShift)];
    if ((block & kSparseTag) != 0) return test_sparse(block, chunk);
    return (words(block)[(chunk / 64) % kBlockWords] >> (chunk % 64) & 1) != 0;
  }
  /// True if it was clear.
  bool set(std::uint64_t chunk);
  /// [first, end). How many changed.
  std::uint64_t set_range(std::uint64_t first, std::uint64_t end);
  std::uint64_t clear_range(std::uint64_t first, std::uint64_t end);

  /// The first set (clear) chunk in [from, end); `end` if there is none.
  std::uint64_t next_set(std::uint64_t from, std::uint64_t end) const;
  std::uint64_t next_clear(std::uint64_t from, std::uint64_t end) const;

  std::size_t block_count() const { return blocks_.size(); }
  /// Whether a block holds what it holds in `other`, of as many chunks. Quick where it is uniform.
  bool same_block(const DirtyFilter& other, std::size_t block) const;
  /// Sets in `into` what is set in the block.
  void add_block(std::size_t block, Block& into) const;
  /// Makes the block what it is in `other`, of as many chunks. Quick where it is uniform.
  void copy_block(std::size_t block, const DirtyFilter& other);
  /// Sets in the block what is set in `other`, of as many chunks. Quick where either is uniform.
  void merge_block(std::size_t block, const DirtyFilter& other);

  std::size_t memory_bytes() const;

 private:
  using Word = std::uint64_t;
  /// The address of a block's words or, with kSparseTag added, of its SparseBlock: the form must
  /// not cost the data path a load of its own.
  using BlockRef = std::uintptr_t;
  static constexpr BlockRef kSparseTag = 1;

  static const Word* words(BlockRef block) { return reinterpret_cast<const Word*>(block); }
  static SparseBlock* sparse(BlockRef block) {
    return reinterpret_cast<SparseBlock*>(block - kSparseTag);
  }
  static bool test_sparse(BlockRef block, std::uint64_t chunk);

  std::uint64_t block_capacity(std::size_t block) const;
  bool is_sparse(std::size_t block) const { return (blocks_[block] & kSparseTag) != 0; }
  /// Neither shared nor sparse.
  bool is_dense(std::size_t block) const;
  /// The block's words for writing, with memory of its own.
  Word* writable(std::size_t block);

  // The changes of form; each gives the memory of the form before back.
  void make_uniform(std::size_t block, bool set);
  void make_dense(std::size_t block);
  void make_sparse(std::size_t block);
  void put_sparse(std::size_t block, SparseBlock* made);
  void release(std::size_t block);
  /// Readies a block for a change of [first, end): true if it is to be made in its sparse form.
  bool choose_sparse(std::size_t block, std::uint64_t first, std::uint64_t end, bool set);
  /// Makes the block these chunks.
  void put_block(std::size_t block, const Block& chunks, std::uint32_t count);
  /// After a change: the form that the block's count asks for.
  void settle(std::size_t block);

  std::uint64_t change_range(std::uint64_t first, std::uint64_t end, bool set);
  std::uint64_t change_in_block(std::size_t block, std::uint64_t first, std::uint64_t end,
                                bool set);
  std::uint64_t change_words(std::size_t block, std::uint64_t first, std::uint64_t end, bool set);
  std::uint64_t next(std::uint64_t from, std::uint64_t end, bool set) const;
  /// Within one block, positions in it; `end` if there is none.
  std::uint64_t next_in_block(BlockRef block, std::uint64_t from, std::uint64_t end,
                              bool set) const;

  std::uint64_t chunk_count_;
  std::uint64_t count_ = 0;
  std::vector<BlockRef> blocks_;
  std::vector<std::uint32_t> counts_;  ///< set chunks of each block
  std::size_t dense_blocks_ = 0;
  std::size_t sparse_bytes_ = 0;  ///< held by all sparse blocks
};

}  // namespace blockmig

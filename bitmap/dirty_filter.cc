// SPDX-License-Identifier: Apache-2.0
#include "bitmap/dirty_filter.h"

#include <algorithm>
#include <array>
#include <bit>

#include "bitmap/heap_bytes.h"
#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"

namespace blockmig {
namespace {

using Words = DirtyFilter::Block;

constexpr Words filled(std::uint64_t word) {
  Words words{};
  words.fill(word);
  return words;
}
/// Shared by every uniform block of every filter; never written.
constexpr Words kAllClear = filled(0);
constexpr Words kAllSet = filled(~std::uint64_t{0});

std::uintptr_t shared(const Words& words) { return reinterpret_cast<std::uintptr_t>(words.data()); }

/// Bits [first, end) of one word; 0 <= first < end <= 64.
constexpr std::uint64_t bit_mask(std::uint64_t first, std::uint64_t end) {
  const std::uint64_t below_end = end == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << end) - 1;
  return below_end & ~((std::uint64_t{1} << first) - 1);
}

std::uint64_t popcount(std::uint64_t word) {
  return static_cast<std::uint64_t>(std::popcount(word));
}

}  // namespace

DirtyFilter::DirtyFilter(std::uint64_t chunk_count) : chunk_count_(chunk_count) {
  static_assert(kBlockChunks == SparseBlock::kPositions);
  const auto blocks = static_cast<std::size_t>(div_up(chunk_count, kBlockChunks));
  blocks_.assign(blocks, shared(kAllClear));
  counts_.assign(blocks, 0);
}

DirtyFilter::~DirtyFilter() {
  for (std::size_t block = 0; block < blocks_.size(); ++block) release(block);
}

std::uint64_t DirtyFilter::block_capacity(std::size_t block) const {
  return std::min(kBlockChunks, chunk_count_ - block * kBlockChunks);
}

bool DirtyFilter::test_sparse(BlockRef block, std::uint64_t chunk) {
  return sparse(block)->test(static_cast<unsigned>(chunk % kBlockChunks));
}

bool DirtyFilter::is_dense(std::size_t block) const {
  const BlockRef ref = blocks_[block];
  return !is_sparse(block) && ref != shared(kAllClear) && ref != shared(kAllSet);
}

DirtyFilter::Word* DirtyFilter::writable(std::size_t block) {
  if (!is_dense(block)) make_dense(block);
  // Dense blocks were allocated by make_dense(), as writable memory.
  return reinterpret_cast<Word*>(blocks_[block]);
}

void DirtyFilter::release(std::size_t block) {
  if (is_sparse(block)) {
    SparseBlock* old = sparse(blocks_[block]);
    sparse_bytes_ -= old->memory_bytes();
    SparseBlock::destroy(old);
  } else if (is_dense(block)) {
    delete[] words(blocks_[block]);
    --dense_blocks_;
  }
}

void DirtyFilter::make_uniform(std::size_t block, bool set) {
  release(block);
  blocks_[block] = set ? shared(kAllSet) : shared(kAllClear);
}

void DirtyFilter::make_dense(std::size_t block) {
  auto* dense = new Word[kBlockWords];
  if (is_sparse(block)) {
    std::fill_n(dense, kBlockWords, 0);
    sparse(blocks_[block])->to_words(dense);
  } else {
    std::copy_n(words(blocks_[block]), kBlockWords, dense);
  }
  release(block);
  blocks_[block] = reinterpret_cast<BlockRef>(dense);
  ++dense_blocks_;
}

void DirtyFilter::make_sparse(std::size_t block) {
  SparseBlock* made = SparseBlock::from_words(words(blocks_[block]), counts_[block]);
  release(block);
  put_sparse(block, made);
}

void DirtyFilter::put_sparse(std::size_t block, SparseBlock* made) {
  blocks_[block] = reinterpret_cast<BlockRef>(made) + kSparseTag;
  sparse_bytes_ += made->memory_bytes();
}

void DirtyFilter::settle(std::size_t block) {
  const std::uint32_t count = counts_[block];
  // A short last block keeps its own memory when full: the shared one has bits beyond the end.
  if (count == 0 || count == kBlockChunks) {
    make_uniform(block, count != 0);
  } else if (is_sparse(block)) {
    SparseBlock* held = sparse(blocks_[block]);
    if (!held->wasteful()) return;
    sparse_bytes_ -= held->memory_bytes();
    put_sparse(block, SparseBlock::resized(held, count));
  } else if (count <= kSparseAgain && dense_blocks_ > kDenseAnyway) {
    make_sparse(block);
  }
}

bool DirtyFilter::set(std::uint64_t chunk) {
  if (test(chunk)) return false;
  const auto block = static_cast<std::size_t>(chunk >> kBlockShift);
  const std::uint64_t position = chunk % kBlockChunks;
  change_in_block(block, position, position + 1, true);
  ++count_;
  return true;
}

std::uint64_t DirtyFilter::set_range(std::uint64_t first, std::uint64_t end) {
  return change_range(first, end, true);
}

std::uint64_t DirtyFilter::clear_range(std::uint64_t first, std::uint64_t end) {
  return change_range(first, end, false);
}

std::uint64_t DirtyFilter::change_range(std::uint64_t first, std::uint64_t end, bool set) {
  BM_CHECK(end <= chunk_count_);
  std::uint64_t changed = 0;
  while (first < end) {
    const auto block = static_cast<std::size_t>(first >> kBlockShift);
    const std::uint64_t block_begin = block * kBlockChunks;
    const std::uint64_t block_end = std::min(end, block_begin + kBlockChunks);
    changed += change_in_block(block, first - block_begin, block_end - block_begin, set);
    first = block_end;
  }
  if (set) {
    count_ += changed;
  } else {
    count_ -= changed;
  }
  return changed;
}

std::uint64_t DirtyFilter::change_in_block(std::size_t block, std::uint64_t first,
                                           std::uint64_t end, bool set) {
  const std::uint32_t before = counts_[block];
  if (before == (set ? block_capacity(block) : 0)) return 0;
  if (first == 0 && end == kBlockChunks) {
    make_uniform(block, set);
    counts_[block] = set ? static_cast<std::uint32_t>(kBlockChunks) : 0;
    return set ? kBlockChunks - before : before;
  }
  const std::uint64_t changed =
      choose_sparse(block, first, end, set)
          ? sparse(blocks_[block])
                ->change(static_cast<unsigned>(first), static_cast<unsigned>(end), set)
          : change_words(block, first, end, set);
  const auto delta = static_cast<std::uint32_t>(changed);
  counts_[block] = set ? before + delta : before - delta;
  settle(block);
  return changed;
}

bool DirtyFilter::choose_sparse(std::size_t block, std::uint64_t first, std::uint64_t end,
                                bool set) {
  if (!is_sparse(block)) {
    const bool fits = set && counts_[block] == 0 && end - first <= SparseBlock::kMaxChunks;
    if (!fits || is_dense(block) || dense_blocks_ < kDenseAnyway) return false;
    put_sparse(block, SparseBlock::create(static_cast<unsigned>(end - first)));
    return true;
  }
  if (!set) return true;
  SparseBlock* held = sparse(blocks_[block]);
  // Most changes fit whatever of the range is set already: then nobody need count that.
  auto wanted = static_cast<unsigned>(held->count() + (end - first));
  if (wanted <= std::min(held->capacity(), SparseBlock::kMaxChunks)) return true;
  wanted -= held->count_in(static_cast<unsigned>(first), static_cast<unsigned>(end));
  if (wanted > SparseBlock::kMaxChunks) return false;
  if (wanted > held->capacity()) {
    sparse_bytes_ -= held->memory_bytes();
    put_sparse(block, SparseBlock::resized(held, wanted));
  }
  return true;
}

std::uint64_t DirtyFilter::change_words(std::size_t block, std::uint64_t first, std::uint64_t end,
                                        bool set) {
  Word* dense = writable(block);
  std::uint64_t changed = 0;
  for (std::uint64_t at = first; at < end;) {
    const std::uint64_t word_end = std::min(end, (at / 64 + 1) * 64);
    const std::uint64_t mask = bit_mask(at % 64, (word_end - 1) % 64 + 1);
    Word& word = dense[at / 64];
    const Word flips = mask & (set ? ~word : word);
    changed += popcount(flips);
    word ^= flips;
    at = word_end;
  }
  return changed;
}

std::uint64_t DirtyFilter::next_set(std::uint64_t from, std::uint64_t end) const {
  return next(from, end, true);
}

std::uint64_t DirtyFilter::next_clear(std::uint64_t from, std::uint64_t end) const {
  return next(from, end, false);
}

std::uint64_t DirtyFilter::next(std::uint64_t from, std::uint64_t end, bool set) const {
  BM_CHECK(end <= chunk_count_);
  while (from < end) {
    const auto block = static_cast<std::size_t>(from >> kBlockShift);
    const std::uint64_t block_begin = block * kBlockChunks;
    const std::uint64_t block_end = std::min(end, block_begin + kBlockChunks);
    const std::uint64_t none_here = set ? 0 : block_capacity(block);
    if (counts_[block] != none_here) {
      const std::uint64_t found =
          next_in_block(blocks_[block], from - block_begin, block_end - block_begin, set);
      if (block_begin + found != block_end) return block_begin + found;
    }
    from = block_end;
  }
  return end;
}

std::uint64_t DirtyFilter::next_in_block(BlockRef block, std::uint64_t from, std::uint64_t end,
                                         bool set) const {
  if ((block & kSparseTag) != 0) {
    const SparseBlock* held = sparse(block);
    const auto at = static_cast<unsigned>(from);
    return std::min<std::uint64_t>(end, set ? held->next_set(at) : held->next_clear(at));
  }
  while (from < end) {
    const Word word = words(block)[from / 64];
    const Word wanted = (set ? word : ~word) >> (from % 64);
    if (wanted != 0) {
      return std::min(end, from + static_cast<std::uint64_t>(std::countr_zero(wanted)));
    }
    from = align_down(from, 64) + 64;
  }
  return end;
}

bool DirtyFilter::same_block(const DirtyFilter& other, std::size_t block) const {
  const std::uint32_t count = counts_[block];
  if (count != other.counts_[block]) return false;
  if (count == 0 || count == block_capacity(block)) return true;
  if (is_sparse(block) && other.is_sparse(block)) {
    return sparse(blocks_[block])->same(*sparse(other.blocks_[block]));
  }
  if (!is_sparse(block) && !other.is_sparse(block)) {
    const Word* const mine = words(blocks_[block]);
    return std::equal(mine, mine + kBlockWords, words(other.blocks_[block]));
  }
  Block mine{};
  Block theirs{};
  add_block(block, mine);
  other.add_block(block, theirs);
  return mine == theirs;
}

void DirtyFilter::add_block(std::size_t block, Block& into) const {
  if (is_sparse(block)) {
    sparse(blocks_[block])->to_words(into.data());
    return;
  }
  const Word* const held = words(blocks_[block]);
  for (std::size_t i = 0; i < kBlockWords; ++i) into[i] |= held[i];
}

void DirtyFilter::copy_block(std::size_t block, const DirtyFilter& other) {
  BM_CHECK(other.chunk_count_ == chunk_count_);
  if (same_block(other, block)) return;
  Block chunks{};
  other.add_block(block, chunks);
  put_block(block, chunks, other.counts_[block]);
}

void DirtyFilter::merge_block(std::size_t block, const DirtyFilter& other) {
  BM_CHECK(other.chunk_count_ == chunk_count_);
  if (other.counts_[block] == 0 || counts_[block] == block_capacity(block)) return;
  if (counts_[block] == 0) return copy_block(block, other);
  Block chunks{};
  add_block(block, chunks);
  other.add_block(block, chunks);
  std::uint32_t count = 0;
  for (const Word word : chunks) count += static_cast<std::uint32_t>(popcount(word));
  put_block(block, chunks, count);
}

void DirtyFilter::put_block(std::size_t block, const Block& chunks, std::uint32_t count) {
  count_ = count_ - counts_[block] + count;
  counts_[block] = count;
  if (count != 0 && count != kBlockChunks) {
    std::copy(chunks.begin(), chunks.end(), writable(block));
  }
  settle(block);
}

std::size_t DirtyFilter::memory_bytes() const {
  return heap_bytes(blocks_.capacity() * sizeof(BlockRef)) +
         heap_bytes(counts_.capacity() * sizeof(std::uint32_t)) +
         dense_blocks_ * heap_bytes(kBlockWords * sizeof(Word)) + sparse_bytes_;
}

}  // namespace blockmig

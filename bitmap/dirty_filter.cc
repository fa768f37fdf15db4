// SPDX-License-Identifier: Apache-2.0
#include "bitmap/dirty_filter.h"

#include <algorithm>
#include <array>
#include <bit>

#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"

namespace blockmig {
namespace {

using Words = std::array<std::uint64_t, DirtyFilter::kBlockWords>;

constexpr Words filled(std::uint64_t word) {
  Words words{};
  words.fill(word);
  return words;
}
/// Shared by every uniform block of every filter; never written.
constexpr Words kAllClear = filled(0);
constexpr Words kAllSet = filled(~std::uint64_t{0});

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
  BM_CHECK(chunk_count <= 1ULL << 32);
  const auto blocks = static_cast<std::size_t>(div_up(chunk_count, kBlockChunks));
  blocks_.assign(blocks, kAllClear.data());
  counts_.assign(blocks, 0);
}

DirtyFilter::~DirtyFilter() {
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    if (owned(block)) delete[] blocks_[block];
  }
}

std::uint64_t DirtyFilter::block_capacity(std::size_t block) const {
  return std::min(kBlockChunks, chunk_count_ - block * kBlockChunks);
}

bool DirtyFilter::owned(std::size_t block) const {
  return blocks_[block] != kAllClear.data() && blocks_[block] != kAllSet.data();
}

DirtyFilter::Word* DirtyFilter::writable(std::size_t block) {
  if (!owned(block)) {
    auto* words = new Word[kBlockWords];
    std::copy_n(blocks_[block], kBlockWords, words);
    blocks_[block] = words;
    ++owned_blocks_;
  }
  // Owned blocks were allocated above, as writable memory.
  return const_cast<Word*>(blocks_[block]);
}

void DirtyFilter::make_uniform(std::size_t block, bool set) {
  if (owned(block)) {
    delete[] blocks_[block];
    --owned_blocks_;
  }
  blocks_[block] = set ? kAllSet.data() : kAllClear.data();
}

void DirtyFilter::settle(std::size_t block) {
  if (counts_[block] == 0) make_uniform(block, false);
  // A short last block keeps its own memory: the shared one has bits beyond the disk's end.
  if (counts_[block] == kBlockChunks) make_uniform(block, true);
}

bool DirtyFilter::set(std::uint64_t chunk) {
  if (test(chunk)) return false;
  const auto block = static_cast<std::size_t>(chunk >> kBlockShift);
  writable(block)[(chunk / 64) % kBlockWords] |= std::uint64_t{1} << (chunk % 64);
  ++counts_[block];
  ++count_;
  settle(block);
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
  Word* words = writable(block);
  std::uint64_t changed = 0;
  for (std::uint64_t at = first; at < end;) {
    const std::uint64_t word_end = std::min(end, (at / 64 + 1) * 64);
    const std::uint64_t mask = bit_mask(at % 64, (word_end - 1) % 64 + 1);
    Word& word = words[at / 64];
    const Word flips = mask & (set ? ~word : word);
    changed += popcount(flips);
    word ^= flips;
    at = word_end;
  }
  const auto delta = static_cast<std::uint32_t>(changed);
  counts_[block] = set ? before + delta : before - delta;
  settle(block);
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
      while (from < block_end) {
        const std::uint64_t in_block = from - block_begin;
        const Word word = blocks_[block][in_block / 64];
        const Word wanted = (set ? word : ~word) >> (from % 64);
        if (wanted != 0) {
          return std::min(end, from + static_cast<std::uint64_t>(std::countr_zero(wanted)));
        }
        from = align_down(from, 64) + 64;
      }
    }
    from = block_end;
  }
  return end;
}

std::size_t DirtyFilter::memory_bytes() const {
  return blocks_.capacity() * sizeof(Word*) + counts_.capacity() * sizeof(std::uint32_t) +
         owned_blocks_ * kBlockWords * sizeof(Word);
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "bitmap/sparse_block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <numeric>

#include "bitmap/heap_bytes.h"
#include "blockmig/base/check.h"

namespace blockmig {

SparseBlock::SparseBlock(unsigned capacity) : capacity_(static_cast<std::uint16_t>(capacity)) {}

SparseBlock* SparseBlock::create(unsigned chunks) {
  BM_CHECK(chunks <= kMaxChunks);
  // The first step is the smaller by 12, so that header and bytes fill what allocators give.
  const auto capacity = static_cast<unsigned>(align_up(chunks + 12, kStep)) - 12;
  return new (::operator new(sizeof(SparseBlock) + capacity)) SparseBlock(capacity);
}

void SparseBlock::destroy(SparseBlock* block) {
  block->~SparseBlock();
  ::operator delete(block);
}

SparseBlock* SparseBlock::resized(SparseBlock* block, unsigned chunks) {
  SparseBlock* other = create(chunks);
  BM_CHECK(block->count() <= other->capacity());
  other->starts_ = block->starts_;
  std::memcpy(other->lows(), block->lows(), block->count());
  destroy(block);
  return other;
}

SparseBlock* SparseBlock::from_words(const std::uint64_t* words, unsigned count) {
  SparseBlock* block = create(count);
  unsigned at = 0;
  for (unsigned i = 0; i < kPositions / 64; ++i) {
    for (std::uint64_t word = words[i]; word != 0; word &= word - 1) {
      const unsigned position = i * 64 + static_cast<unsigned>(std::countr_zero(word));
      BM_CHECK(at < count);
      block->lows()[at++] = static_cast<std::uint8_t>(position);
      ++block->starts_[(position >> kBucketShift) + 1];
    }
  }
  BM_CHECK(at == count);
  std::partial_sum(block->starts_.begin(), block->starts_.end(), block->starts_.begin());
  return block;
}

void SparseBlock::to_words(std::uint64_t* words) const {
  for (unsigned bucket = 0; bucket < kBuckets; ++bucket) {
    for (unsigned at = starts_[bucket]; at < starts_[bucket + 1]; ++at) {
      const unsigned position = bucket << kBucketShift | lows()[at];
      words[position / 64] |= std::uint64_t{1} << (position % 64);
    }
  }
}

bool SparseBlock::same(const SparseBlock& other) const {
  return starts_ == other.starts_ && std::memcmp(lows(), other.lows(), count()) == 0;
}

bool SparseBlock::test(unsigned position) const {
  const unsigned bucket = position >> kBucketShift;
  const unsigned begin = starts_[bucket];
  return std::memchr(lows() + begin, static_cast<std::uint8_t>(position),
                     starts_[bucket + 1] - begin) != nullptr;
}

unsigned SparseBlock::rank(unsigned position) const {
  const unsigned bucket = position >> kBucketShift;
  if (bucket == kBuckets) return count();
  const std::uint8_t* begin = lows() + starts_[bucket];
  const std::uint8_t* end = lows() + starts_[bucket + 1];
  const auto low = static_cast<std::uint8_t>(position);
  return static_cast<unsigned>(std::lower_bound(begin, end, low) - lows());
}

unsigned SparseBlock::next_set(unsigned from) const {
  const unsigned at = rank(from);
  if (at == count()) return kPositions;
  unsigned bucket = from >> kBucketShift;
  while (starts_[bucket + 1] <= at) ++bucket;
  return bucket << kBucketShift | lows()[at];
}

unsigned SparseBlock::next_clear(unsigned from) const {
  // Neighbours in the block are neighbours in its bytes, across buckets too.
  for (unsigned at = rank(from); from < kPositions; ++at, ++from) {
    if (!holds(at, from)) break;
  }
  return from;
}

unsigned SparseBlock::change(unsigned first, unsigned end, bool set) {
  const unsigned begin = rank(first);
  const unsigned behind = end == first + 1 ? begin + (holds(begin, first) ? 1 : 0) : rank(end);
  const unsigned wanted = set ? end - first : 0;
  const int delta = static_cast<int>(wanted) - static_cast<int>(behind - begin);
  if (delta == 0) return 0;
  BM_CHECK(static_cast<int>(count()) + delta <= static_cast<int>(capacity_));
  std::memmove(lows() + begin + wanted, lows() + behind, count() - behind);
  for (unsigned i = 0; i < wanted; ++i) lows()[begin + i] = static_cast<std::uint8_t>(first + i);
  // Starts within the range: everything before them is set, or nothing is.
  const unsigned last_bucket = (end - 1) >> kBucketShift;
  for (unsigned bucket = (first >> kBucketShift) + 1; bucket <= last_bucket; ++bucket) {
    const unsigned before = set ? (bucket << kBucketShift) - first : 0;
    starts_[bucket] = static_cast<std::uint16_t>(begin + before);
  }
  // All of them with a mask, not the later ones only: a loop of fixed length becomes a few vector
  // additions, and modulo 2^16 an addition of a negative number is one too.
  const auto step = static_cast<std::uint16_t>(delta);
  for (unsigned i = 1; i <= kBuckets; ++i) {
    const std::uint16_t mask = i > last_bucket ? 0xffff : 0;
    starts_[i] = static_cast<std::uint16_t>(starts_[i] + (step & mask));
  }
  return static_cast<unsigned>(delta < 0 ? -delta : delta);
}

std::size_t SparseBlock::memory_bytes() const {
  return heap_bytes(sizeof(SparseBlock) + capacity_);
}

}  // namespace blockmig

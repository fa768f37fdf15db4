// SPDX-License-Identifier: Apache-2.0
// SparseBlock: the set chunks of one DirtyFilter block when they are few.
//
// Positions 0 … 32,767 in ascending order. The high seven bits of a position choose one of 128
// buckets, the low eight bits are kept, a byte each; a table says where each bucket starts. So a
// block costs 260 bytes and one for each chunk (a sorted array of whole positions: two), and a
// question looks at one table entry and at its bucket: two cache lines, for random chunks about two
// bytes to compare.
//
// Header and bytes are one allocation: made by create(), given back by destroy(), grown by
// resized(), which makes another block. Exact at every call; positions are the caller's to check,
// as is room for what change() adds. Private to DirtyFilter. One thread at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace blockmig {

class SparseBlock final {
 public:
  static constexpr unsigned kPositions = 1U << 15;
  /// More are cheaper dense: bytes would still be saved, but an insertion moves them.
  static constexpr unsigned kMaxChunks = 1536;

  /// Empty, with room for at least `chunks` <= kMaxChunks.
  static SparseBlock* create(unsigned chunks);
  /// The set bits of a dense block, at most kMaxChunks.
  static SparseBlock* from_words(const std::uint64_t* words, unsigned count);
  /// A copy with room for at least `chunks` >= count(); `block` is destroyed.
  static SparseBlock* resized(SparseBlock* block, unsigned chunks);
  static void destroy(SparseBlock* block);

  SparseBlock(const SparseBlock&) = delete;
  SparseBlock& operator=(const SparseBlock&) = delete;

  unsigned count() const { return starts_[kBuckets]; }
  unsigned capacity() const { return capacity_; }
  /// True if so much room is unused that a smaller block should take its place.
  bool wasteful() const { return capacity_ - count() >= 2 * kStep; }

  bool test(unsigned position) const;
  /// How many are set in [first, end).
  unsigned count_in(unsigned first, unsigned end) const { return rank(end) - rank(first); }
  /// The first set (clear) position >= `from`; kPositions if there is none.
  unsigned next_set(unsigned from) const;
  unsigned next_clear(unsigned from) const;

  /// Sets or clears [first, end), first < end, and says how many changed. Setting needs
  /// count() + (end - first) - count_in(first, end) <= capacity().
  unsigned change(unsigned first, unsigned end, bool set);

  bool same(const SparseBlock& other) const;

  /// Sets its bits in `words`.
  void to_words(std::uint64_t* words) const;

  /// Bytes held, allocator's overhead included.
  std::size_t memory_bytes() const;

 private:
  static constexpr unsigned kBucketShift = 8;
  static constexpr unsigned kBuckets = kPositions >> kBucketShift;
  /// Room grows by this many: few copies while a block fills, little room unused.
  static constexpr unsigned kStep = 64;

  explicit SparseBlock(unsigned capacity);
  ~SparseBlock() = default;

  /// How many are set below `position` <= kPositions.
  unsigned rank(unsigned position) const;
  /// True if `position` is set; `at` is its rank.
  bool holds(unsigned at, unsigned position) const {
    return at < starts_[(position >> kBucketShift) + 1] &&
           lows()[at] == static_cast<std::uint8_t>(position);
  }
  /// The low bytes, behind the header.
  std::uint8_t* lows() { return reinterpret_cast<std::uint8_t*>(this + 1); }
  const std::uint8_t* lows() const { return reinterpret_cast<const std::uint8_t*>(this + 1); }

  /// Chunks in the buckets before this one; the last entry is the count of all.
  std::array<std::uint16_t, kBuckets + 1> starts_{};
  std::uint16_t capacity_;
};

}  // namespace blockmig

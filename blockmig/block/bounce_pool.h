// SPDX-License-Identifier: Apache-2.0
// BouncePool: aligned buffers for requests whose own memory O_DIRECT does not accept, kept for the
// next such request: their pages are there already then, which is most of what a fresh buffer of
// 64 KiB costs. The kept ones are pieces of one stretch of contiguous memory
// (blockmig/base/contiguous_memory.h), since a disk serves 64 KiB in one piece 1.5 times as fast as
// in sixteen. When that is used up, or for more than 128 KiB, a buffer is an allocation.
// So a pool takes 2 MiB from its first buffer on.
//
// Content is unspecified until written. Thread rule: one loop; a buffer is not used after the pool.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/contiguous_memory.h"
#include "blockmig/block/aligned_buffer.h"

namespace blockmig {

class BouncePool final {
 public:
  BouncePool() = default;
  BouncePool(const BouncePool&) = delete;
  BouncePool& operator=(const BouncePool&) = delete;

  /// A buffer, given back by destruction.
  class Lent final {
   public:
    Lent(BouncePool& pool, MutableBytes piece) : pool_(pool), bytes_(piece) {}
    Lent(BouncePool& pool, std::size_t size)
        : pool_(pool), own_(std::in_place, size), bytes_(own_->bytes()) {}
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    ~Lent() {
      if (!own_) pool_.keep(bytes_);
    }
    MutableBytes bytes() { return bytes_; }

   private:
    BouncePool& pool_;
    std::optional<AlignedBuffer> own_;
    MutableBytes bytes_;
  };
  /// At least `size` bytes; size > 0.
  Lent lend(std::size_t size) {
    const std::size_t rounded = std::bit_ceil(std::max(size, kSmallest));
    if (rounded > kLargest) return Lent(*this, size);
    const MutableBytes piece = take_piece(rounded);
    return piece.empty() ? Lent(*this, rounded) : Lent(*this, piece);
  }

  /// Bytes that lie idle, to be lent again.
  std::size_t kept_bytes() const { return kept_bytes_; }

 private:
  static constexpr std::size_t kSmallest = 4 * kKiB;
  static constexpr std::size_t kLargest = 128 * kKiB;

  struct Unmap {
    void operator()(std::byte* memory) const { unmap_contiguous(memory, kContiguousBytes); }
  };

  std::vector<std::byte*>& idle_of(std::size_t rounded) {
    return idle_[static_cast<std::size_t>(std::countr_zero(rounded / kSmallest))];
  }

  /// Empty if there is none left.
  MutableBytes take_piece(std::size_t rounded) {
    std::vector<std::byte*>& idle = idle_of(rounded);
    std::byte* piece = nullptr;
    if (!idle.empty()) {
      piece = idle.back();
      idle.pop_back();
      kept_bytes_ -= rounded;
    } else if (carved_bytes_ + rounded <= kContiguousBytes) {
      if (!memory_) memory_.reset(map_contiguous());
      piece = memory_.get() + carved_bytes_;
      carved_bytes_ += rounded;
    } else {
      return {};
    }
    ++lent_;
    return {piece, rounded};
  }

  void keep(MutableBytes piece) {
    --lent_;
    kept_bytes_ += piece.size();
    idle_of(piece.size()).push_back(piece.data());
    // Carved anew, in the sizes that are wanted then.
    if (lent_ != 0 || carved_bytes_ + kLargest <= kContiguousBytes) return;
    for (std::vector<std::byte*>& idle : idle_) idle.clear();
    carved_bytes_ = kept_bytes_ = 0;
  }

  std::unique_ptr<std::byte, Unmap> memory_;
  std::size_t carved_bytes_ = 0;                 ///< of memory_, from its beginning
  std::size_t lent_ = 0;                         ///< pieces
  std::array<std::vector<std::byte*>, 6> idle_;  ///< by size: 4, 8, ... 128 KiB
  std::size_t kept_bytes_ = 0;
};

}  // namespace blockmig

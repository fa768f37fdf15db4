// SPDX-License-Identifier: Apache-2.0
// BouncePool: aligned buffers for requests whose own memory O_DIRECT does not accept, kept for the
// next such request. Their pages are there already then, which is most of what a fresh buffer of
// 64 KiB costs. Small ones only, and few: at most 2 MiB are kept.
//
// Content is unspecified until written. Thread rule: one loop; a buffer is not used after the pool.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "blockmig/base/bytes.h"
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
    Lent(BouncePool& pool, AlignedBuffer buffer) : pool_(pool), buffer_(std::move(buffer)) {}
    Lent(const Lent&) = delete;
    Lent& operator=(const Lent&) = delete;
    ~Lent() { pool_.keep(std::move(buffer_)); }
    MutableBytes bytes() { return buffer_.bytes(); }

   private:
    BouncePool& pool_;
    AlignedBuffer buffer_;
  };
  /// At least `size` bytes; size > 0.
  Lent lend(std::size_t size) {
    const std::size_t rounded = std::bit_ceil(std::max(size, kSmallest));
    if (rounded > kLargest) return Lent(*this, AlignedBuffer(size));
    std::vector<AlignedBuffer>& idle = idle_of(rounded);
    if (idle.empty()) return Lent(*this, AlignedBuffer(rounded));
    AlignedBuffer buffer = std::move(idle.back());
    idle.pop_back();
    kept_bytes_ -= rounded;
    return Lent(*this, std::move(buffer));
  }

  std::size_t kept_bytes() const { return kept_bytes_; }

 private:
  static constexpr std::size_t kSmallest = 4 * kKiB;
  static constexpr std::size_t kLargest = 128 * kKiB;
  static constexpr std::size_t kMostKept = 2 * kMiB;

  std::vector<AlignedBuffer>& idle_of(std::size_t rounded) {
    return idle_[static_cast<std::size_t>(std::countr_zero(rounded / kSmallest))];
  }
  void keep(AlignedBuffer buffer) {
    const std::size_t size = buffer.bytes().size();
    if (size > kLargest || kept_bytes_ + size > kMostKept) return;
    kept_bytes_ += size;
    idle_of(size).push_back(std::move(buffer));
  }

  std::array<std::vector<AlignedBuffer>, 6> idle_;  ///< by size: 4, 8, ... 128 KiB
  std::size_t kept_bytes_ = 0;
};

}  // namespace blockmig

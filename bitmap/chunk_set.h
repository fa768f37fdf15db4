// SPDX-License-Identifier: Apache-2.0
// ChunkSet: a set of chunk indices below 2^32, compressed. The wall around CRoaring: nothing else
// in the project knows it.
//
// Version 0.2.66 must not be asked containsRange (wrong, may abort) nor trusted with unvalidated
// bytes (its "safe" reader checks bounds only); neither is used here. Out of memory in CRoaring
// aborts. One thread at a time, const functions included.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "blockmig/base/bytes.h"

namespace blockmig {

class ChunkSet final {
 public:
  ChunkSet();
  ~ChunkSet();
  ChunkSet(const ChunkSet&) = delete;
  ChunkSet& operator=(const ChunkSet&) = delete;

  /// Fastest when `chunks` is ascending.
  void add_many(const std::vector<std::uint32_t>& chunks);
  /// [first, end), end <= 2^32.
  void add_range(std::uint64_t first, std::uint64_t end);
  void remove_range(std::uint64_t first, std::uint64_t end);
  void clear();

  /// O(containers).
  std::uint64_t count() const;
  /// Appends up to `max` members >= `from`, ascending.
  void collect(std::uint64_t from, std::size_t max, std::vector<std::uint32_t>& into) const;

  /// Roaring's portable format (RoaringFormatSpec), as small as it gets.
  std::vector<std::byte> to_portable();
  /// `bytes` were validated by walk_portable() and are exactly one set; false if CRoaring still
  /// refuses.
  bool from_portable(ConstBytes bytes);

  /// Allocated bytes, from the containers' capacities.
  std::size_t memory_bytes() const;

 private:
  struct Bits;
  std::unique_ptr<Bits> bits_;
};

}  // namespace blockmig

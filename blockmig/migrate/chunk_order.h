// SPDX-License-Identifier: Apache-2.0
// ChunkOrder: in which order a pass takes the dirty chunks.
//
// A pass is one or more sweeps over the disk, each ascending. An order says which chunks belong to
// the sweep that is on. Every chunk that is dirty when the pass begins belongs to exactly one
// sweep, so a pass misses none. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/disk/heat_map.h"

namespace blockmig {

class ChunkOrder {
 public:
  virtual ~ChunkOrder() = default;
  virtual void begin_pass(TimePoint now) = 0;
  /// Whether a chunk with this range belongs to the sweep that is on.
  virtual bool takes(ByteRange chunk) const = 0;
  /// Goes on to the next sweep; false if that was the last one.
  virtual bool next_sweep() = 0;
};

/// One sweep over everything.
std::unique_ptr<ChunkOrder> make_sequential_order();

/// Chunks that the guest writes again and again come last: copied early, they would be dirty again
/// before the pass has ended. `heat` outlives the order.
std::unique_ptr<ChunkOrder> make_hot_last_order(const HeatMap& heat);

/// The same without the hot ones: they stay dirty. For a move that leaves them behind.
std::unique_ptr<ChunkOrder> make_cold_only_order(const HeatMap& heat);

/// From which heat on a region is hot, of a disk with `regions` of them: well above what it would
/// have if the heat were spread evenly, and at least a few requests. Pure.
double hot_threshold(const std::vector<HeatMap::Region>& warm, std::uint64_t regions);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// HeatMap: how often each region of a disk was asked for lately.
//
// Heat is a number of requests that decays: after one half-life a request counts half. So "hot" is
// what is hot now, not what was once. A region is 64 KiB (a chunk), or larger where the disk has
// more than kMaxRegions of them: memory is bounded whatever the size, and taken by the page where
// requests have been. Each region keeps its heat and the time it stands for in one atomic word; two
// threads that meet in one region may lose a request of one of them, which heat can bear.
//
// HeatSampler is what the data path uses: it records one request in eight, drawn, and counts it
// eight times, so that the common case is a multiplication and a comparison.
//
// Thread rule: HeatMap any thread, also at once; a HeatSampler belongs to one thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class HeatMap final {
 public:
  static constexpr std::uint64_t kLeastRegionBytes = 64 * 1024;
  /// 8 bytes each: 8 MiB at most.
  static constexpr std::uint64_t kMaxRegions = 1u << 20;
  /// Of one request, no more regions than this are heated: a discard of the disk is not a use of
  /// it.
  static constexpr std::uint64_t kMaxRegionsOfRequest = 1024;
  static constexpr Duration kDefaultHalfLife = std::chrono::seconds(30);

  explicit HeatMap(std::uint64_t size_bytes, Duration half_life = kDefaultHalfLife);
  ~HeatMap();
  HeatMap(const HeatMap&) = delete;
  HeatMap& operator=(const HeatMap&) = delete;

  /// A request of [offset, offset + length), as far as it lies within the disk; counts `weight`
  /// times.
  void record(std::uint64_t offset, std::uint64_t length, TimePoint now, float weight = 1);

  struct Region {
    ByteRange range;
    double heat = 0;  ///< requests, decayed
  };
  /// Of the region that `offset` lies in.
  double heat(std::uint64_t offset, TimePoint now) const;
  /// Regions of at least `threshold`, ascending by offset; `threshold` > 0. Costs a walk over all.
  std::vector<Region> at_least(double threshold, TimePoint now) const;

  struct Summary {
    std::uint64_t hot_bytes = 0;  ///< of the regions of at least the threshold
    double hot = 0;               ///< their heat
    double all = 0;               ///< of all regions
  };
  Summary summary(double threshold, TimePoint now) const;

  std::uint64_t region_bytes() const { return region_bytes_; }
  std::uint64_t regions() const { return regions_; }
  /// Taken so far.
  std::uint64_t memory_bytes() const;

 private:
  static constexpr std::uint64_t kRegionsOfPage = 512;
  struct Page {
    std::atomic<std::uint64_t> cells[kRegionsOfPage] = {};
  };
  std::uint32_t tick_of(TimePoint now) const;
  float decayed(std::uint64_t cell, std::uint32_t tick) const;
  Page& page_at(std::uint64_t region);
  template <typename Visit>
  void visit_hot(TimePoint now, Visit visit) const;

  std::uint64_t size_bytes_;
  std::uint64_t region_bytes_;
  std::uint64_t regions_;
  float half_life_ticks_;
  std::vector<std::atomic<Page*>> pages_;
};

class HeatSampler final {
 public:
  static constexpr unsigned kOneIn = 8;

  explicit HeatSampler(HeatMap& heat) : heat_(heat) {}
  void record(std::uint64_t offset, std::uint64_t length, TimePoint now) {
    state_ = state_ * 1664525u + 1013904223u;  // Numerical Recipes' generator; its high bits serve
    if (state_ >= UINT32_MAX / kOneIn) return;
    heat_.record(offset, length, now, kOneIn);
  }

 private:
  HeatMap& heat_;
  std::uint32_t state_ = 0;
};

}  // namespace blockmig

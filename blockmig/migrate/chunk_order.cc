// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/chunk_order.h"

#include <algorithm>

namespace blockmig {
namespace {

/// Times the even share.
constexpr double kHotFactor = 4;
/// One sample counts for eight requests; a single one proves nothing.
constexpr double kLeastHotRequests = 2.0 * HeatSampler::kOneIn;

class Sequential final : public ChunkOrder {
 public:
  void begin_pass(TimePoint) override {}
  bool takes(ByteRange) const override { return true; }
  bool next_sweep() override { return false; }
};

/// Ascending, the hot ones after the others, or not at all.
class ByHeat final : public ChunkOrder {
 public:
  ByHeat(const HeatMap& heat, bool takes_hot) : heat_(heat), takes_hot_(takes_hot) {}

  void begin_pass(TimePoint now) override {
    hot_.assign(heat_.regions(), false);
    any_hot_ = hot_sweep_ = false;
    const auto warm = heat_.at_least(kLeastHotRequests, now);
    const double threshold = hot_threshold(warm, heat_.regions());
    for (const HeatMap::Region& region : warm) {
      if (region.heat < threshold) continue;
      hot_[region.range.offset / heat_.region_bytes()] = true;
      any_hot_ = true;
    }
  }
  bool takes(ByteRange chunk) const override {
    if (!any_hot_) return true;
    return is_hot(chunk) == hot_sweep_;
  }
  bool next_sweep() override {
    if (!any_hot_ || hot_sweep_ || !takes_hot_) return false;
    hot_sweep_ = true;
    return true;
  }

 private:
  bool is_hot(ByteRange chunk) const {
    const std::uint64_t last = (chunk.end() - 1) / heat_.region_bytes();
    for (std::uint64_t i = chunk.offset / heat_.region_bytes(); i <= last; ++i) {
      if (hot_[i]) return true;
    }
    return false;
  }

  const HeatMap& heat_;
  bool takes_hot_;
  std::vector<bool> hot_;  ///< by region, as at the beginning of the pass
  bool any_hot_ = false;
  bool hot_sweep_ = false;
};

}  // namespace

std::unique_ptr<ChunkOrder> make_sequential_order() { return std::make_unique<Sequential>(); }

std::unique_ptr<ChunkOrder> make_hot_last_order(const HeatMap& heat) {
  return std::make_unique<ByHeat>(heat, true);
}

std::unique_ptr<ChunkOrder> make_cold_only_order(const HeatMap& heat) {
  return std::make_unique<ByHeat>(heat, false);
}

double hot_threshold(const std::vector<HeatMap::Region>& warm, std::uint64_t regions) {
  double sum = 0;
  for (const HeatMap::Region& region : warm) sum += region.heat;
  const double even = sum / static_cast<double>(std::max<std::uint64_t>(regions, 1));
  return std::max(kHotFactor * even, kLeastHotRequests);
}

}  // namespace blockmig

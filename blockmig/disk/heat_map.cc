// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/heat_map.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace blockmig {
namespace {

/// Coarse time: heat of one tick is added without a decay to compute. 2^32 of them are 13 years.
constexpr Duration kTick = std::chrono::milliseconds(100);
/// Less than this is no heat: a sample decays to it in ten half-lives.
constexpr float kColdBelow = 1.0f / 128;

std::uint64_t pack(float heat, std::uint32_t tick) {
  return std::uint64_t{std::bit_cast<std::uint32_t>(heat)} << 32 | tick;
}

}  // namespace

HeatMap::HeatMap(std::uint64_t size_bytes, Duration half_life)
    : size_bytes_(size_bytes),
      region_bytes_(kLeastRegionBytes),
      half_life_ticks_(
          static_cast<float>(std::max(std::chrono::duration<double>(half_life) / kTick, 1.0))) {
  while (div_up(size_bytes_, region_bytes_) > kMaxRegions) region_bytes_ *= 2;
  regions_ = div_up(size_bytes_, region_bytes_);
  pages_ = std::vector<std::atomic<Page*>>(div_up(regions_, kRegionsOfPage));
}

HeatMap::~HeatMap() {
  for (auto& page : pages_) delete page.load(std::memory_order_relaxed);
}

std::uint32_t HeatMap::tick_of(TimePoint now) const {
  return static_cast<std::uint32_t>(now.time_since_epoch() / kTick);
}

float HeatMap::decayed(std::uint64_t cell, std::uint32_t tick) const {
  const float heat = std::bit_cast<float>(static_cast<std::uint32_t>(cell >> 32));
  // Another thread's clock may be a tick ahead: then nothing has decayed.
  const auto age = static_cast<std::int32_t>(tick - static_cast<std::uint32_t>(cell));
  if (age <= 0 || heat == 0) return heat;
  return heat * std::exp2(-static_cast<float>(age) / half_life_ticks_);
}

HeatMap::Page& HeatMap::page_at(std::uint64_t region) {
  std::atomic<Page*>& place = pages_[region / kRegionsOfPage];
  Page* page = place.load(std::memory_order_acquire);
  if (page != nullptr) return *page;
  auto fresh = std::make_unique<Page>();
  if (place.compare_exchange_strong(page, fresh.get(), std::memory_order_acq_rel)) {
    return *fresh.release();
  }
  return *page;  // another thread was first
}

void HeatMap::record(std::uint64_t offset, std::uint64_t length, TimePoint now, float weight) {
  if (length == 0 || offset >= size_bytes_) return;
  length = std::min(length, size_bytes_ - offset);
  const std::uint32_t tick = tick_of(now);
  const std::uint64_t first = offset / region_bytes_;
  const std::uint64_t last =
      std::min((offset + length - 1) / region_bytes_, first + kMaxRegionsOfRequest - 1);
  for (std::uint64_t region = first; region <= last; ++region) {
    std::atomic<std::uint64_t>& cell = page_at(region).cells[region % kRegionsOfPage];
    const float before = decayed(cell.load(std::memory_order_relaxed), tick);
    cell.store(pack(before + weight, tick), std::memory_order_relaxed);
  }
}

double HeatMap::heat(std::uint64_t offset, TimePoint now) const {
  const std::uint64_t region = offset / region_bytes_;
  const Page* page = pages_[region / kRegionsOfPage].load(std::memory_order_acquire);
  if (page == nullptr) return 0;
  const float heat =
      decayed(page->cells[region % kRegionsOfPage].load(std::memory_order_relaxed), tick_of(now));
  return heat < kColdBelow ? 0 : static_cast<double>(heat);
}

template <typename Visit>
void HeatMap::visit_hot(TimePoint now, Visit visit) const {
  const std::uint32_t tick = tick_of(now);
  for (std::uint64_t number = 0; number < pages_.size(); ++number) {
    const Page* page = pages_[number].load(std::memory_order_acquire);
    if (page == nullptr) continue;
    for (std::uint64_t i = 0; i < kRegionsOfPage; ++i) {
      const float heat = decayed(page->cells[i].load(std::memory_order_relaxed), tick);
      if (heat < kColdBelow) continue;
      const std::uint64_t offset = (number * kRegionsOfPage + i) * region_bytes_;
      visit(Region{{offset, std::min(region_bytes_, size_bytes_ - offset)},
                   static_cast<double>(heat)});
    }
  }
}

std::vector<HeatMap::Region> HeatMap::at_least(double threshold, TimePoint now) const {
  std::vector<Region> found;
  visit_hot(now, [&](const Region& region) {
    if (region.heat >= threshold) found.push_back(region);
  });
  return found;
}

HeatMap::Summary HeatMap::summary(double threshold, TimePoint now) const {
  Summary summary;
  visit_hot(now, [&](const Region& region) {
    summary.all += region.heat;
    if (region.heat < threshold) return;
    summary.hot += region.heat;
    summary.hot_bytes += region.range.length;
  });
  return summary;
}

std::uint64_t HeatMap::memory_bytes() const {
  std::uint64_t bytes = pages_.size() * sizeof(pages_[0]);
  for (const auto& page : pages_) {
    if (page.load(std::memory_order_relaxed) != nullptr) bytes += sizeof(Page);
  }
  return bytes;
}

}  // namespace blockmig

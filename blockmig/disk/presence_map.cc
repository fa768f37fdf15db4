// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/presence_map.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/disk/region_snapshot.h"

namespace blockmig {
namespace {

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

static_assert(DirtyFilter::kBlockChunks == kChunksPerContainer);

}  // namespace

Result<std::unique_ptr<PresenceMap>> PresenceMap::create(std::uint64_t size_bytes,
                                                         std::uint32_t granularity_bytes) {
  auto absent = DirtyBitmap::create(size_bytes, granularity_bytes);
  if (!absent) return absent.error();
  auto fresh = DirtyBitmap::create(size_bytes, granularity_bytes);
  if (!fresh) return fresh.error();
  return std::unique_ptr<PresenceMap>(new PresenceMap(*std::move(absent), *std::move(fresh)));
}

Result<std::unique_ptr<PresenceMap>> PresenceMap::load(std::uint64_t size_bytes,
                                                       std::uint32_t granularity_bytes,
                                                       const std::vector<RegionContainer>& saved) {
  auto map = create(size_bytes, granularity_bytes);
  if (!map) return map;
  DirtyBitmap& absent = *(*map)->absent_;
  const Status loaded =
      for_each_run(saved, absent.chunk_count(), [&absent](std::uint64_t first, std::uint64_t end) {
        const std::uint64_t offset = absent.chunk_range(first).offset;
        absent.mark(offset, absent.chunk_range(end - 1).end() - offset);
      });
  if (!loaded.ok()) return loaded.error().with_context("a saved presence map");
  return map;
}

void PresenceMap::set_absent(const DirtyBitmap& absent) { absent_->merge(absent); }

bool PresenceMap::follow(std::uint32_t index, const DirtyBitmap& absent) {
  return absent_->copy_block(index, absent);
}

bool PresenceMap::all_absent(ByteRange range) const {
  const auto found = runs(range, 2);
  return found.empty() || (found.size() == 1 && found.front().dirty);
}

ByteRange PresenceMap::outwards(ByteRange range) const {
  if (range.empty()) return range;
  const std::uint64_t begin = align_down(range.offset, granularity_bytes());
  const std::uint64_t end = align_down(range.end() - 1, granularity_bytes()) + granularity_bytes();
  return {begin, std::min(end, absent_->size_bytes()) - begin};
}

ByteRange PresenceMap::inwards(ByteRange range) const {
  const std::uint64_t granularity = granularity_bytes();
  const std::uint64_t begin = div_up(range.offset, granularity) * granularity;
  const bool to_the_end = range.end() == absent_->size_bytes();
  const std::uint64_t end = to_the_end ? range.end() : align_down(range.end(), granularity);
  return begin < end ? ByteRange{begin, end - begin} : ByteRange{range.offset, 0};
}

void PresenceMap::set_present(ByteRange range) {
  const ByteRange whole_chunks = inwards(range);
  if (whole_chunks.empty()) return;
  for (const DirtyBitmap::Run& run : runs(whole_chunks, kAll)) {
    if (run.dirty) fresh_->mark(run.range.offset, run.range.length);
  }
  absent_->clear(whole_chunks.offset, whole_chunks.length);
}

DirtyLease PresenceMap::take_fresh() { return fresh_->lease(0, kAll); }

std::vector<std::uint32_t> PresenceMap::containers_of(const std::vector<std::uint32_t>& chunks) {
  std::vector<std::uint32_t> containers;
  for (const std::uint32_t chunk : chunks) {
    const std::uint32_t index = chunk / kChunksPerContainer;
    if (containers.empty() || containers.back() != index) containers.push_back(index);
  }
  return containers;
}

RegionContainer PresenceMap::durable_form(std::uint32_t index) const {
  DirtyBitmap::Block members{};
  absent_->add_block(index, members);
  fresh_->add_block(index, members);
  return container_of(index, members);
}

std::vector<RegionContainer> PresenceMap::durable_form() const {
  std::vector<RegionContainer> containers;
  std::uint64_t from = 0;
  for (;;) {
    const auto absent = absent_->next_dirty(from);
    const auto fresh = fresh_->next_dirty(from);
    if (!absent && !fresh) return containers;
    const std::uint64_t next = std::min(absent.value_or(UINT64_MAX), fresh.value_or(UINT64_MAX));
    const auto index = static_cast<std::uint32_t>(next / kChunksPerContainer);
    containers.push_back(durable_form(index));
    from = (std::uint64_t{index} + 1) * kChunksPerContainer;
  }
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/region_snapshot.h"

#include <algorithm>
#include <string>
#include <utility>

namespace blockmig {
namespace {

/// Of a bitmap's runs asked for at once: bounds what one question allocates.
constexpr std::size_t kRunsAtOnce = 4096;

}  // namespace

std::uint32_t container_count(std::uint64_t chunk_count) {
  return static_cast<std::uint32_t>((chunk_count + kChunksPerContainer - 1) / kChunksPerContainer);
}

std::vector<std::byte> container_bits(const DirtyFilter& set, std::uint32_t index) {
  const std::uint64_t first = std::uint64_t{index} * kChunksPerContainer;
  const std::uint64_t end = std::min(first + kChunksPerContainer, set.chunk_count());
  std::vector<std::byte> bits;
  std::uint64_t from = set.next_set(first, end);
  while (from < end) {
    const std::uint64_t until = set.next_clear(from, end);
    bits.resize((until - first + 7) / 8);
    for (std::uint64_t chunk = from - first; chunk < until - first; ++chunk) {
      bits[chunk / 8] |= std::byte{1} << (chunk % 8);
    }
    from = set.next_set(until, end);
  }
  return bits;
}

Status for_each_run(const std::vector<RegionContainer>& containers, std::uint64_t chunk_count,
                    const std::function<void(std::uint64_t first, std::uint64_t end)>& visit) {
  for (const RegionContainer& container : containers) {
    const std::uint64_t first = std::uint64_t{container.index} * kChunksPerContainer;
    const std::uint64_t count = container.bits.size() * 8;
    for (std::uint64_t i = 0; i < count; ++i) {
      const auto is_set = [&container](std::uint64_t bit) {
        return (container.bits[bit / 8] >> (bit % 8) & std::byte{1}) != std::byte{0};
      };
      if (!is_set(i)) continue;
      const std::uint64_t begun = i;
      while (i < count && is_set(i)) ++i;
      if (first + i > chunk_count) {
        return Error(ErrorCode::kProtocol, "a recorded set has chunk " +
                                               std::to_string(first + i - 1) + " of a disk of " +
                                               std::to_string(chunk_count));
      }
      visit(first + begun, first + i);
    }
  }
  return {};
}

void copy_dirty(const DirtyBitmap& bitmap, DirtyFilter& into) {
  const std::uint64_t granularity = bitmap.granularity_bytes();
  std::uint64_t offset = 0;
  while (offset < bitmap.size_bytes()) {
    const auto runs = bitmap.runs(offset, bitmap.size_bytes() - offset, kRunsAtOnce);
    for (const DirtyBitmap::Run& run : runs) {
      offset = run.range.end();
      if (!run.dirty) continue;
      into.set_range(run.range.offset / granularity,
                     (run.range.end() + granularity - 1) / granularity);
    }
  }
}

RegionChange change_between(const DirtyFilter& before, const DirtyFilter& now, RegionSetId set) {
  RegionChange change{std::move(set.disk), std::move(set.name), {}, {}};
  for (std::uint32_t index = 0; index < container_count(now.chunk_count()); ++index) {
    std::vector<std::byte> bits = container_bits(now, index);
    if (bits == container_bits(before, index)) continue;
    if (bits.empty()) {
      change.erase.push_back(index);
    } else {
      change.put.push_back({index, std::move(bits)});
    }
  }
  return change;
}

void add_change(JournalBatch& batch, const DirtyFilter& before, const DirtyFilter& now,
                const RegionSetId& set) {
  RegionChange whole = change_between(before, now, set);
  RegionChange part{set.disk, set.name, {}, {}};
  const auto close_if = [&batch, &part, &set](std::size_t at_least) {
    if (part.put.size() + part.erase.size() < at_least) return;
    batch.regions.push_back(std::move(part));
    part = {set.disk, set.name, {}, {}};
  };
  for (RegionContainer& container : whole.put) {
    part.put.push_back(std::move(container));
    close_if(kMaxContainersPerChange);
  }
  for (const std::uint32_t index : whole.erase) {
    part.erase.push_back(index);
    close_if(kMaxContainersPerChange);
  }
  close_if(1);
}

}  // namespace blockmig

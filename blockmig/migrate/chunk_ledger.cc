// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/chunk_ledger.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {

RangeGuard::RangeGuard(ChunkLedger& ledger, ByteRange range) : ledger_(ledger), range_(range) {
  BM_CHECK(!range.empty());
  for (auto chunk = ledger_.first_chunk(range_); chunk <= ledger_.last_chunk(range_); ++chunk) {
    ChunkLedger::Entry& entry = ledger_.entries_[chunk];
    BM_CHECK(!entry.copying);
    entry.mirrored.push_back(this);
  }
}

RangeGuard::~RangeGuard() {
  for (auto chunk = ledger_.first_chunk(range_); chunk <= ledger_.last_chunk(range_); ++chunk) {
    const auto place = ledger_.entries_.find(chunk);
    BM_CHECK(place != ledger_.entries_.end());
    auto& mirrored = place->second.mirrored;
    mirrored.erase(std::find(mirrored.begin(), mirrored.end(), this));
    if (mirrored.empty() && !place->second.copying) ledger_.entries_.erase(place);
  }
  ledger_.changed_.pulse();
}

bool ChunkLedger::try_begin_copy(std::uint32_t chunk, bool exclusive) {
  const auto [place, inserted] = entries_.try_emplace(chunk);
  if (!inserted) return false;
  place->second.copying = true;
  place->second.exclusive = exclusive;
  return true;
}

std::vector<std::uint32_t> ChunkLedger::busy() const {
  std::vector<std::uint32_t> chunks;
  chunks.reserve(entries_.size());
  for (const auto& entry : entries_) chunks.push_back(entry.first);
  return chunks;
}

void ChunkLedger::end_copy(std::uint32_t chunk) {
  const auto place = entries_.find(chunk);
  BM_CHECK(place != entries_.end() && place->second.copying);
  BM_CHECK(place->second.mirrored.empty());
  entries_.erase(place);
  changed_.pulse();
}

template <typename Predicate>
bool ChunkLedger::any_entry(ByteRange range, Predicate predicate) const {
  if (entries_.empty()) return false;
  for (auto chunk = first_chunk(range); chunk <= last_chunk(range); ++chunk) {
    const auto place = entries_.find(chunk);
    if (place != entries_.end() && predicate(place->second)) return true;
  }
  return false;
}

bool ChunkLedger::copying(ByteRange range) const {
  return any_entry(range, [](const Entry& entry) { return entry.copying; });
}

bool ChunkLedger::copying_exclusively(ByteRange range) const {
  return any_entry(range, [](const Entry& entry) { return entry.exclusive; });
}

bool ChunkLedger::overlaps_mirrored(ByteRange range) const {
  return any_entry(range, [&](const Entry& entry) {
    return std::any_of(entry.mirrored.begin(), entry.mirrored.end(),
                       [&](const RangeGuard* guard) { return guard->range().overlaps(range); });
  });
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/chunk_ledger.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {

RangeGuard::RangeGuard(ChunkLedger& ledger, ByteRange range) : ledger_(ledger), range_(range) {
  BM_CHECK(!range.empty());
  BM_CHECK(!ledger_.in_run(ledger_.first_chunk(range_), ledger_.last_chunk(range_)));
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
  if (in_run(chunk, chunk)) return false;
  const auto [place, inserted] = entries_.try_emplace(chunk);
  if (!inserted) return false;
  place->second.copying = true;
  place->second.exclusive = exclusive;
  return true;
}

std::vector<std::uint32_t> ChunkLedger::busy() const {
  std::vector<std::uint32_t> chunks;
  chunks.reserve(entries_.size());
  for (const auto& entry : entries_) chunks.push_back(static_cast<std::uint32_t>(entry.first));
  for (const Run& run : runs_) {
    for (std::uint64_t chunk = run.first; chunk < run.end; ++chunk) {
      chunks.push_back(static_cast<std::uint32_t>(chunk));
    }
  }
  return chunks;
}

bool ChunkLedger::in_run(std::uint64_t first, std::uint64_t last) const {
  return std::any_of(runs_.begin(), runs_.end(),
                     [=](const Run& run) { return run.first <= last && first < run.end; });
}

std::uint64_t ChunkLedger::try_begin_run(std::uint32_t first, std::uint64_t count) {
  std::uint64_t end = first + count;
  for (const auto& entry : entries_) {
    if (entry.first >= first) end = std::min(end, entry.first);
  }
  for (const Run& run : runs_) {
    if (run.end > first) end = std::min(end, std::max<std::uint64_t>(run.first, first));
  }
  if (end == first) return 0;
  runs_.push_back({first, end});
  return end - first;
}

void ChunkLedger::end_run(std::uint32_t first, std::uint64_t count) {
  const auto ours = [=](const Run& run) { return run.first == first && run.end == first + count; };
  const auto place = std::find_if(runs_.begin(), runs_.end(), ours);
  BM_CHECK(place != runs_.end());
  runs_.erase(place);
  changed_.pulse();
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
  if (in_run(first_chunk(range), last_chunk(range))) return true;
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

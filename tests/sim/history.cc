// SPDX-License-Identifier: Apache-2.0
#include "history.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "blockmig/base/check.h"

namespace blockmig::sim {
namespace {

std::uint64_t mix(std::uint64_t sector, SectorValue value) {
  std::uint64_t z = value * 0x9e3779b97f4a7c15ULL ^ (sector + 1) * 0xbf58476d1ce4e5b9ULL;
  z ^= z >> 29;
  return z | 1;  // never zero
}

using Pattern = std::array<std::uint64_t, 2>;

}  // namespace

History::History(std::uint64_t size_bytes)
    : size_bytes_(size_bytes),
      sectors_(div_up(size_bytes, kSectorBytes)),
      is_unsettled_(sectors_.size()) {
  for (auto& writes : sectors_)
    writes.push_back({0, 0, 0, true});  // zeros before anything was written
}

ByteRange History::sector_range(std::uint64_t sector) const {
  const std::uint64_t offset = sector * kSectorBytes;
  return {offset, std::min(kSectorBytes, size_bytes_ - offset)};
}

std::uint64_t History::begin_write(std::uint64_t first, std::vector<SectorValue> values) {
  const std::uint64_t begun = tick();
  for (std::size_t i = 0; i < values.size(); ++i) {
    sectors_[first + i].push_back({values[i], begun, kUnknownEnd, false});
  }
  pending_.push_back({first, values.size(), begun});
  return pending_.size() - 1;
}

void History::end_write(std::uint64_t id, bool certain) {
  const std::uint64_t ended = tick();
  if (!certain) return;
  const Pending& pending = pending_[id];
  for (std::uint64_t i = 0; i < pending.count; ++i) {
    auto& writes = sectors_[pending.first + i];
    const auto place = std::find_if(writes.rbegin(), writes.rend(), [&](const Write& write) {
      return write.begun == pending.begun;
    });
    BM_CHECK(place != writes.rend());
    place->ended = ended;
    const std::uint64_t sector = pending.first + i;
    if (!is_unsettled_[sector]) unsettled_.push_back(sector);
    is_unsettled_[sector] = true;
  }
}

std::uint64_t History::begin_read() {
  const std::uint64_t begun = tick();
  active_reads_.insert(begun);
  return begun;
}

void History::end_read(std::uint64_t begun) { active_reads_.erase(active_reads_.find(begun)); }

void History::acknowledge_flush(std::uint64_t begun) {
  const std::uint64_t oldest = active_reads_.empty() ? now_ : *active_reads_.begin();
  const auto settle = [&](std::uint64_t sector) {
    auto& writes = sectors_[sector];
    std::uint64_t newest_settled = 0;
    for (Write& write : writes) {
      if (write.ended < begun) write.flushed = true;
      if (write.flushed && write.ended < oldest)
        newest_settled = std::max(newest_settled, write.begun);
    }
    // Nobody may ever see again what was overwritten, durably, before any read under way began.
    std::erase_if(writes, [&](const Write& write) { return write.ended < newest_settled; });
    is_unsettled_[sector] = std::any_of(writes.begin(), writes.end(), [&](const Write& write) {
      return write.ended != kUnknownEnd && !write.flushed;
    });
    return !is_unsettled_[sector];
  };
  std::erase_if(unsettled_, settle);
}

std::optional<std::string> History::judge(std::uint64_t sector, SectorValue seen,
                                          std::uint64_t begun, std::uint64_t ended,
                                          bool only_flushed) const {
  const auto& writes = sectors_[sector];
  // Zeros are written many times: the read is legal if any of the writes explains it.
  const Write* newest_overwriter = nullptr;
  bool candidate = false;
  for (const Write& write : writes) {
    if (write.value != seen || write.begun > ended) continue;
    candidate = true;
    const auto overwriter = std::find_if(writes.begin(), writes.end(), [&](const Write& other) {
      return other.begun > write.ended && other.ended < begun && (!only_flushed || other.flushed);
    });
    if (overwriter == writes.end()) return std::nullopt;
    newest_overwriter = &*overwriter;
  }
  const std::string where =
      "sector " + std::to_string(sector) + " holds value " + std::to_string(seen);
  if (!candidate) return where + ", which nobody had written there by then";
  return where + " although value " + std::to_string(newest_overwriter->value) +
         " was written after it and acknowledged" + (only_flushed ? " and flushed" : "");
}

std::optional<std::string> History::check_read(std::uint64_t first,
                                               const std::vector<SectorValue>& seen,
                                               std::uint64_t begun, std::uint64_t ended) const {
  for (std::size_t i = 0; i < seen.size(); ++i) {
    auto problem = judge(first + i, seen[i], begun, ended, false);
    if (problem) return problem;
  }
  return std::nullopt;
}

std::optional<std::string> History::check_survivor(std::uint64_t sector, SectorValue seen) const {
  return judge(sector, seen, now_ + 1, now_ + 1, true);
}

void History::start_again(std::uint64_t sector, SectorValue seen) {
  const std::uint64_t now = tick();
  sectors_[sector].assign(1, Write{seen, now, now, true});
}

void History::encode(std::uint64_t sector, SectorValue value, MutableBytes into) const {
  if (value == 0) {
    std::memset(into.data(), 0, into.size());
    return;
  }
  const Pattern pattern = {value, mix(sector, value)};
  std::size_t at = 0;
  for (; at + sizeof pattern <= into.size(); at += sizeof pattern) {
    std::memcpy(into.data() + at, pattern.data(), sizeof pattern);
  }
  std::memcpy(into.data() + at, pattern.data(), into.size() - at);
}

std::optional<SectorValue> History::decode(std::uint64_t sector, ConstBytes bytes) const {
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(sizeof value, bytes.size()));
  const Pattern pattern = value == 0 ? Pattern{} : Pattern{value, mix(sector, value)};
  std::uint64_t differing = 0;
  std::size_t at = 0;
  for (; at + sizeof pattern <= bytes.size(); at += sizeof pattern) {
    Pattern found;
    std::memcpy(found.data(), bytes.data() + at, sizeof found);
    differing |= (found[0] ^ pattern[0]) | (found[1] ^ pattern[1]);
  }
  const bool end_differs = std::memcmp(bytes.data() + at, pattern.data(), bytes.size() - at) != 0;
  if (differing != 0 || end_differs) return std::nullopt;
  return value;
}

}  // namespace blockmig::sim

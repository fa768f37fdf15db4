// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/sector_history.h"

#include <algorithm>

namespace blockmig::bench {

Tick SectorHistory::begin() {
  active_.push_back({.start = ++clock_, .ended = false});
  return clock_;
}

void SectorHistory::end(Tick start) {
  const auto found = std::lower_bound(active_.begin(), active_.end(), start,
                                      [](const Active& a, Tick t) { return a.start < t; });
  found->ended = true;
  while (!active_.empty() && active_.front().ended) active_.pop_front();
}

void SectorHistory::write_begins(Tick start, std::uint64_t sector, std::uint64_t hash) {
  Writes& writes = writes_[sector];
  if (writes.empty()) {
    writes.push_back({.hash = 0, .start = 0, .effective = 0, .replaced = kNever, .unknown = true});
  }
  writes.push_back({.hash = hash, .start = start, .effective = kNever, .replaced = kNever});
}

void SectorHistory::write_ended(Tick start, std::uint64_t sector, Tick at) {
  Writes& writes = writes_[sector];
  for (Write& w : writes) {
    if (w.start == start) w.effective = std::min(w.effective, at);
  }
  prune(writes);
}

bool SectorHistory::overwritten(const Writes& writes, const Write& w, Tick before) {
  if (w.replaced < before) return true;
  for (const Write& newer : writes) {
    if (newer.start > w.effective && newer.effective < before) return true;
  }
  return false;
}

bool SectorHistory::read_ended(Tick start, std::uint64_t sector, std::uint64_t hash, Tick at) {
  Writes& writes = writes_[sector];
  if (writes.empty()) {
    writes.push_back({.hash = hash, .start = 0, .effective = 0, .replaced = kNever});
    return true;
  }
  std::size_t possible = 0;
  std::size_t which = 0;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    const bool same = !writes[i].unknown && writes[i].hash == hash;
    if (same && !overwritten(writes, writes[i], start)) {
      ++possible;
      which = i;
    }
  }
  Write& first = writes.front();
  if (first.unknown && !overwritten(writes, first, start)) {
    if (possible > 0) return true;  // either of them: nothing is learnt
    first.unknown = false;
    first.hash = hash;
    possible = 1;
    which = 0;
  }
  if (possible == 1) saw(writes, which, start, at);
  prune(writes);
  return possible > 0;
}

void SectorHistory::saw(Writes& writes, std::size_t which, Tick start, Tick at) {
  // What surely took effect before the read began and is not what it returned came before that.
  Write& seen = writes[which];
  seen.effective = std::min(seen.effective, at);
  for (Write& w : writes) {
    if (&w != &seen && w.effective < start) w.replaced = std::min(w.replaced, at);
  }
}

void SectorHistory::prune(Writes& writes) const {
  const Tick oldest = oldest_active();
  // Each record is judged against all of them: what a dropped one overwrote is itself dropped,
  // since what overwrote the former overwrote the latter too.
  std::vector<bool> drop(writes.size());
  for (std::size_t i = 0; i < writes.size(); ++i) drop[i] = overwritten(writes, writes[i], oldest);
  std::size_t kept = 0;
  for (std::size_t i = 0; i < writes.size(); ++i) {
    if (!drop[i]) writes[kept++] = writes[i];
  }
  writes.resize(kept);
}

bool SectorHistory::written_since(std::uint64_t sector, Tick start) const {
  const Writes& writes = writes_[sector];
  return std::any_of(writes.begin(), writes.end(),
                     [start](const Write& w) { return w.effective > start; });
}

bool SectorHistory::ever_written(std::uint64_t sector) const {
  const Writes& writes = writes_[sector];
  return std::any_of(writes.begin(), writes.end(), [](const Write& w) { return w.start > 0; });
}

}  // namespace blockmig::bench

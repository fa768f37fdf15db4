// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/unanswered.h"

#include <algorithm>
#include <utility>

namespace blockmig {

Unanswered::Entry::Entry(Unanswered& owner, Place place, std::function<void()> cut)
    : owner_(owner), place_(std::move(place)), cut_(std::move(cut)) {
  at_ = owner_.entries_.insert(owner_.entries_.end(), this);
}

Unanswered::Entry::~Entry() {
  owner_.entries_.erase(at_);
  owner_.changed_.pulse();
}

std::vector<Unanswered::Place> Unanswered::places() const {
  std::vector<Place> places;
  for (const Entry* entry : entries_) places.push_back(entry->place_);
  return places;
}

Task<bool> Unanswered::wait(std::string uri, TimePoint deadline) {
  const auto is_there = [&uri](const Entry* entry) { return entry->place_.uri == uri; };
  bool in_time = true;
  while (in_time && std::any_of(entries_.begin(), entries_.end(), is_there)) {
    in_time = co_await changed_.wait_until(deadline);
  }
  co_return in_time;
}

void Unanswered::cut() {
  for (const Entry* entry : entries_) entry->cut_();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/stall_watch.h"

#include <algorithm>
#include <utility>

namespace blockmig::nbd {

void StallWatch::note(std::uint64_t connection, const MemoryStanding& standing, TimePoint now) {
  if (standing.held_bytes.value() == 0 || standing.waits_for_client.value() == 0) {
    return forget(connection);
  }
  const auto [place, fresh] = windows_.try_emplace(connection, Window{now, standing, false, 0});
  Window& window = place->second;
  window.held_bytes = standing.held_bytes.value();
  if (fresh || now - window.begin < patience_) return;
  const std::uint64_t given = standing.given_bytes.value() - window.first.given_bytes.value();
  window.stalled = given < (window.first.held_bytes.value() + 1) / 2;
  window.begin = now;
  window.first = standing;
}

std::vector<std::uint64_t> StallWatch::take_culprits() {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> stalled;
  for (const auto& [connection, window] : windows_) {
    if (window.stalled) stalled.emplace_back(window.held_bytes, connection);
  }
  std::sort(stalled.rbegin(), stalled.rend());
  std::vector<std::uint64_t> culprits;
  for (const auto& [held, connection] : stalled) {
    culprits.push_back(connection);
    forget(connection);
  }
  if (!culprits.empty()) patience_ = std::max(patience_ / 2, std::min(kLeastPatience, timeout_));
  return culprits;
}

}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/stall_watch.h"

namespace blockmig::nbd {

void StallWatch::note(std::uint64_t connection, const MemoryStanding& standing, TimePoint now) {
  if (standing.held_bytes.value() == 0 || standing.waits_for_client.value() == 0) {
    return forget(connection);
  }
  const auto [place, fresh] = windows_.try_emplace(connection, Window{now, standing, false, 0});
  Window& window = place->second;
  window.held_bytes = standing.held_bytes.value();
  if (fresh || now - window.begin < timeout_) return;
  const std::uint64_t given = standing.given_bytes.value() - window.first.given_bytes.value();
  window.stalled = given < (window.first.held_bytes.value() + 1) / 2;
  window.begin = now;
  window.first = standing;
}

std::optional<std::uint64_t> StallWatch::culprit() const {
  std::optional<std::uint64_t> worst;
  std::uint64_t most = 0;
  for (const auto& [connection, window] : windows_) {
    if (!window.stalled || window.held_bytes <= most) continue;
    most = window.held_bytes;
    worst = connection;
  }
  return worst;
}

}  // namespace blockmig::nbd

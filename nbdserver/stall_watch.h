// SPDX-License-Identifier: Apache-2.0
// StallWatch: finds the client that holds memory which others wait for, and neither reads its
// replies nor sends its payload.
//
// Use: note() every connection now and then; culprit() when somebody has waited too long. A
// connection is judged over windows of the stall timeout: waiting for its client through all of one
// and giving back less than half of what it held when the window began makes it a culprit, so that
// dripping a byte now and then does not help. Who waits for a slow store is none. The largest
// culprit is named; cutting one at a time gives the others their chance. No I/O. Thread rule: one
// loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "blockmig/io/event_loop.h"
#include "nbdserver/memory_standing.h"

namespace blockmig::nbd {

class StallWatch final {
 public:
  explicit StallWatch(Duration timeout) : timeout_(timeout) {}

  void note(std::uint64_t connection, const MemoryStanding& standing, TimePoint now);
  void forget(std::uint64_t connection) { windows_.erase(connection); }
  std::optional<std::uint64_t> culprit() const;
  void clear() { windows_.clear(); }

 private:
  struct Window {
    TimePoint begin;
    MemoryStanding first;
    bool stalled = false;  ///< by the last whole window
    std::uint64_t held_bytes = 0;
  };

  const Duration timeout_;
  std::map<std::uint64_t, Window> windows_;  ///< of those who hold something
};

}  // namespace blockmig::nbd

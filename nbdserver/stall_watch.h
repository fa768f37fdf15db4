// SPDX-License-Identifier: Apache-2.0
// StallWatch: finds the clients that hold memory which others wait for, and neither read their
// replies nor send their payload.
//
// Use: note() every connection now and then; take_culprits() when somebody has waited for
// patience(). A connection is judged over windows of that length: waiting for its client through
// all of one and giving back less than half of what it held when the window began makes it a
// culprit, so that dripping a byte now and then does not help. Who waits for a slow store is none.
//
// Patience begins as the stall timeout and is halved with every round of culprits, down to
// kLeastPatience, until nobody waits any more (relieve()): connections that cost their owner a few
// bytes each, one crowd after the other, do not make the others wait a stall timeout for each
// crowd. No I/O. Thread rule: one loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <vector>

#include "blockmig/io/event_loop.h"
#include "nbdserver/memory_standing.h"

namespace blockmig::nbd {

class StallWatch final {
 public:
  static constexpr Duration kLeastPatience = std::chrono::seconds(1);

  explicit StallWatch(Duration timeout) : timeout_(timeout), patience_(timeout) {}

  void note(std::uint64_t connection, const MemoryStanding& standing, TimePoint now);
  void forget(std::uint64_t connection) { windows_.erase(connection); }
  Duration patience() const { return patience_; }
  /// All that are culprits now, the largest first; they are forgotten, and patience is shorter.
  std::vector<std::uint64_t> take_culprits();
  /// Nobody waits for memory.
  void relieve() {
    windows_.clear();
    patience_ = timeout_;
  }

 private:
  struct Window {
    TimePoint begin;
    MemoryStanding first;
    bool stalled = false;  ///< by the last whole window
    std::uint64_t held_bytes = 0;
  };

  const Duration timeout_;
  Duration patience_;
  std::map<std::uint64_t, Window> windows_;  ///< of those who hold something
};

}  // namespace blockmig::nbd

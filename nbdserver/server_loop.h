// SPDX-License-Identifier: Apache-2.0
// ServerLoop: one of the loops that connections are served on, with what they share there.
//
// The server's home loop is one of them. Lifecycle: made on the home loop; it outlives the
// connections placed on it, and its loop outlives it. Thread rule: `pool` and `tasks` belong to
// `loop`; `connections` to the home loop.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/tls/handshake_steps.h"
#include "nbdserver/buffer_pool.h"

namespace blockmig::nbd {

struct ServerLoop {
  /// `io` to move streams here; null for a loop whose streams never move.
  ServerLoop(EventLoop& own_loop, IoLoop* own_io, std::size_t max_idle_bytes, MemoryBudget* budget)
      : loop(own_loop), io(own_io), pool(max_idle_bytes, budget) {}

  EventLoop& loop;
  IoLoop* const io;
  BufferPool pool;
  TaskScope tasks;
  std::size_t connections = 0;
};

/// All of a server's loops. The home loop is the first.
class ServerLoops final {
 public:
  /// `handshakes`: as HandshakeSteps has them.
  ServerLoops(EventLoop& home, const std::vector<IoLoop*>& others, BlockingCalls& handshakes,
              std::size_t max_idle_bytes_each, MemoryBudget* budget = nullptr)
      : handshake_steps_(home, handshakes) {
    loops_.push_back(std::make_unique<ServerLoop>(home, nullptr, max_idle_bytes_each, budget));
    for (IoLoop* other : others) {
      loops_.push_back(std::make_unique<ServerLoop>(*other, other, max_idle_bytes_each, budget));
    }
  }

  ServerLoop& home() { return *loops_.front(); }
  /// Of all connections; they negotiate on the home loop.
  HandshakeSteps& handshake_steps() { return handshake_steps_; }
  const std::vector<std::unique_ptr<ServerLoop>>& all() const { return loops_; }
  /// Where the next connection should live: where the fewest do; at home when in doubt, since
  /// there every request takes the short way.
  ServerLoop& pick() {
    ServerLoop* best = loops_.front().get();
    for (const auto& loop : loops_) {
      if (loop->connections < best->connections) best = loop.get();
    }
    return *best;
  }

 private:
  HandshakeSteps handshake_steps_;
  std::vector<std::unique_ptr<ServerLoop>> loops_;
};

}  // namespace blockmig::nbd

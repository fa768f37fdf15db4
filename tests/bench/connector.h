// SPDX-License-Identifier: Apache-2.0
// Connector: opens connections on a thread of its own, so that a slow handshake does not disturb
// the requests on other connections (nor their measured latencies).
//
// Lifecycle: make, request() any number of times, take() what is ready; the destructor waits for
// the handshake under way, at most its timeout. `ready_fd` becomes readable when take() has
// something. Thread rule: all members from one thread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "tests/bench/nbd_connection.h"

namespace blockmig::bench {

class Connector {
 public:
  struct Outcome {
    Result<Connection> connection;
    std::uint64_t took_ns;
    Outcome(Result<Connection> c, std::uint64_t took) : connection(std::move(c)), took_ns(took) {}
  };

  explicit Connector(const Endpoint& endpoint);
  ~Connector();
  Connector(const Connector&) = delete;
  Connector& operator=(const Connector&) = delete;

  void request();
  /// Null if nothing is ready.
  std::unique_ptr<Outcome> take();
  int ready_fd() const { return event_fd_; }
  /// Requested and not taken yet.
  unsigned pending() const { return pending_; }
  /// How long the handshake under way has lasted; 0 without one.
  std::uint64_t waiting_ns() const;

 private:
  void run();

  const Endpoint endpoint_;
  const int event_fd_;
  unsigned pending_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  unsigned wanted_ = 0;
  bool stopping_ = false;
  std::uint64_t began_ns_ = 0;
  std::deque<std::unique_ptr<Outcome>> done_;
  std::thread thread_;
};

}  // namespace blockmig::bench

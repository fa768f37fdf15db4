// SPDX-License-Identifier: Apache-2.0
// MetricsServer: GET /metrics over TCP, for a Prometheus that cannot reach the control socket. It
// answers nothing else: who can connect can read the metrics (names of disks among them) and do no
// more. Plain HTTP, of which it knows what a scrape needs (metrics_request.h).
//
// Anybody may connect, so whatever clients do costs MetricsLimits: one thread, a request's bytes
// per connection, one page for all who wait for it. One connection too many closes the oldest; so
// does a lack of descriptors.
//
// Lifecycle: start() binds and serves; destruction closes everything, whatever is under way, and
// joins: it waits for the handler's page and for no client. Thread rule: start and destroy from one
// thread; the handler is called on the server's.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <thread>

#include "blockmig/base/error.h"
#include "blockmig/io/unique_fd.h"
#include "tools/control/channel.h"
#include "tools/control/metrics_connection.h"

namespace blockmig {

struct MetricsLimits {
  std::size_t request_bytes = 8 << 10;
  std::size_t connections = 16;
  /// For a connection from its beginning to its end.
  std::chrono::milliseconds deadline{5000};
};

class MetricsServer final {
 public:
  /// Host and port as in SocketAddress. `handler` outlives the server. kIo: cannot bind.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& host, std::uint16_t port,
                                                      ControlHandler& handler,
                                                      const MetricsLimits& limits = {});
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  std::uint16_t port() const { return port_; }

 private:
  using Clock = MetricsConnection::Clock;

  MetricsServer(UniqueFd listener, std::uint16_t port, UniqueFd stop, ControlHandler& handler,
                const MetricsLimits& limits);

  // The thread's.
  void run();
  /// False: the server is to stop. Else everything that something has come for has gone on.
  bool wait_and_advance();
  int patience_ms() const;
  void accept_one();
  void answer_who_asks();
  void drop_ended();

  const UniqueFd listener_;
  const std::uint16_t port_;
  const UniqueFd stop_;  ///< readable: the thread is to end
  ControlHandler& handler_;
  const MetricsLimits limits_;
  std::list<MetricsConnection> clients_;  ///< the oldest first
  Clock::time_point accept_again_;        ///< after a lack of descriptors
  std::thread thread_;
};

}  // namespace blockmig

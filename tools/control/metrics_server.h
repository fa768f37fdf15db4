// SPDX-License-Identifier: Apache-2.0
// MetricsServer: GET /metrics over TCP, for a Prometheus that cannot reach the control socket. It
// answers nothing else: who can connect can read the metrics (names of disks among them) and do no
// more. Plain HTTP, in threads of its own.
//
// Lifecycle: start() binds and serves; destruction stops and joins. Thread rule: start and destroy
// from one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "tools/control/channel.h"

namespace blockmig {

class MetricsServer final {
 public:
  /// `port` 0: the kernel picks. `handler` outlives the server. kIo: cannot bind.
  static Result<std::unique_ptr<MetricsServer>> start(const std::string& host, std::uint16_t port,
                                                      ControlHandler& handler);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  std::uint16_t port() const;

 private:
  struct State;
  explicit MetricsServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace blockmig

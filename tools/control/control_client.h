// SPDX-License-Identifier: Apache-2.0
// ControlClient: a ControlHandler that is a daemon in another process. One connection per request.
// While one daemon takes another's place nobody listens for a moment. As long as the state folder,
// which is the socket's folder, is held, a request that cannot have been carried out is made again.
// Thread rule: any thread; requests do not share state.
#pragma once

#include <chrono>
#include <string>

#include "tools/control/channel.h"

namespace blockmig {

class ControlClient final : public ControlHandler {
 public:
  explicit ControlClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  /// A response of status 503 and code "shutdown" (exit code 7) where no daemon answers.
  ControlResponse handle(const ControlRequest& request) override;
  /// True if something accepts connections on the socket. Waits for it as above.
  bool daemon_listens() const;

 private:
  struct Attempt;
  Attempt ask_once(const ControlRequest& request) const;
  /// Waits a moment. False: nobody will listen, or not in time.
  bool may_listen_before(std::chrono::steady_clock::time_point until) const;

  std::string socket_path_;
};

}  // namespace blockmig

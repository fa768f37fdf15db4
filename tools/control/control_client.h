// SPDX-License-Identifier: Apache-2.0
// ControlClient: a ControlHandler that is a daemon in another process. One connection per request.
// Thread rule: any thread; requests do not share state.
#pragma once

#include <string>

#include "tools/control/channel.h"

namespace blockmig {

class ControlClient final : public ControlHandler {
 public:
  explicit ControlClient(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  /// A response of status 503 and code "shutdown" (exit code 7) where no daemon answers.
  ControlResponse handle(const ControlRequest& request) override;
  /// True if something accepts connections on the socket.
  bool daemon_listens() const;

 private:
  std::string socket_path_;
};

}  // namespace blockmig

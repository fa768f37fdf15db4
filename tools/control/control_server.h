// SPDX-License-Identifier: Apache-2.0
// ControlServer: HTTP/JSON on a unix socket (mode 0600), in threads of its own, in front of a
// ControlHandler. Hostile input costs its own connection only: requests are bounded in bytes and in
// time, and so are answers. What is only asked (GET) never waits behind commands that take long,
// and a command whose client has given up, or must have, is not begun (CommandQueue).
//
// Lifecycle: start() binds and serves; destruction removes the socket, stops and joins. It waits
// for requests that the handler has, and for no client: an answer that a socket takes at once is
// still sent, so whoever asked for the end hears of it. Others are told that theirs was not begun.
// Thread rule: start and destroy from one thread.
#pragma once

#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "tools/control/channel.h"
#include "tools/control/command_queue.h"

namespace blockmig {

class ControlServer final {
 public:
  /// `handler` outlives the server. The caller holds the state folder (StateDirLock), so a socket
  /// that is found there is stale and is replaced. kPrecondition: path too long; kIo: cannot bind.
  static Result<std::unique_ptr<ControlServer>> start(const std::string& socket_path,
                                                      ControlHandler& handler,
                                                      const CommandQueue::Limits& limits = {});
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  struct State;
  explicit ControlServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Sockets that whoever started the process has opened for it: socket activation (sd_listen_fds(3):
// LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES, descriptors from 3), and standard input and output.
//
// Lifecycle: take_activated_sockets() once, early in main, before threads are started: it changes
// the environment. Thread rule: the main thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

struct InheritedSocket {
  UniqueFd fd;            ///< close-on-exec from now on
  std::string name;       ///< as LISTEN_FDNAMES says; "unknown" where it does not
  bool listening = true;  ///< else it is one client's connection (Accept=yes)
};

/// What a daemon has left in the service manager's store for its next start; of any type, and left
/// as it is.
inline constexpr std::string_view kStoredPrefix = "blockmig.";
inline bool is_stored(const InheritedSocket& socket) {
  return socket.name.starts_with(kStoredPrefix);
}

/// None if the variables are not there or meant for another process. They are unset in any case, so
/// that no child takes itself for the one that is meant. kInvalid: what they say cannot be, or a
/// descriptor is not a stream socket; the message names it.
Result<std::vector<InheritedSocket>> take_activated_sockets();
/// The same with the descriptors from `first_fd` on.
Result<std::vector<InheritedSocket>> take_activated_sockets(int first_fd);

/// One client on standard input and output: a socket on standard input, as inetd passes it, or a
/// pipe or socket on each.
struct StandardStreams {
  UniqueFd in;
  UniqueFd out;  ///< none: `in` is a socket and takes both directions
};

/// Moves them away; /dev/null takes their places, so that nothing else reads or prints between.
/// kPrecondition: a terminal, a file, closed.
Result<StandardStreams> take_standard_streams();
Result<std::unique_ptr<Stream>> adopt_standard_streams(IoLoop& loop, StandardStreams streams);

}  // namespace blockmig

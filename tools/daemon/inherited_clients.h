// SPDX-License-Identifier: Apache-2.0
// InheritedClients: what the process was started with to serve clients on, before it opened
// anything itself. Taken in main, given to the daemon, which opens it when its disks are there.
// Thread rule: handed from the main thread to the loop.
#pragma once

#include <optional>
#include <vector>

#include "blockmig/io/inherited_sockets.h"

namespace blockmig {

struct InheritedClients {
  std::vector<InheritedSocket> sockets;
  std::optional<StandardStreams> stdio;

  bool empty() const { return sockets.empty() && !stdio; }
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// ParkedServer: the clients and listeners of a server that has stopped serving them without a word
// to them, so that another process (or the same one) can go on where it stopped.
//
// Of a client nothing is in flight: every request that was taken has been answered, and what had
// arrived of the next one is in `leftover`. Values, but for the descriptors they own.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"
#include "nbdserver/client_counters.h"
#include "nbdserver/listen_protection.h"
#include "nbdserver/meta_context.h"
#include "nbdserver/request_rules.h"

namespace blockmig {

/// What a client has done by the time that it is parked.
struct ClientPast {
  std::uint64_t requests = 0;  ///< in all: an older program says no more
  std::array<std::uint64_t, kNbdOps.size()> requests_by_op{};
  std::uint64_t errors = 0;
  std::uint64_t refused = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  Duration connected{};
  std::uint64_t& of(NbdOp op) { return requests_by_op[static_cast<std::size_t>(op)]; }
  std::uint64_t of(NbdOp op) const { return requests_by_op[static_cast<std::size_t>(op)]; }
  friend bool operator==(const ClientPast&, const ClientPast&) = default;
};

struct ParkedClient {
  UniqueFd socket;
  std::uint64_t id = 0;  ///< its number, which it keeps; 0: it gets one
  ClientPast past;
  bool counted = false;  ///< by the server that resumes it, as accepted
  std::string export_name;
  nbd::TransmissionRules rules;  ///< as the client was told
  std::vector<nbd::MetaContext> contexts;
  std::vector<std::byte> leftover;
};

struct ParkedListener {
  UniqueFd socket;
  bool owned = false;                    ///< the address ends with it
  std::optional<SocketAddress> asked{};  ///< what it was made for, where that is known
};

/// Clients that hold up a park(): in the middle of a request that they do not send on, with answers
/// that they do not read, or with TLS or pipes, which cannot change hands.
enum class Stragglers : std::uint8_t {
  kRefuse,  ///< nothing is parked
  kCut,     ///< they are, and the others are parked: where these would be lost otherwise
};

struct ParkedServer {
  ListenProtection protection;  ///< of the server that has parked them
  std::vector<ParkedListener> listeners;
  std::vector<ParkedClient> clients;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// ParkedServer: the clients and listeners of a server that has stopped serving them without a word
// to them, so that another process (or the same one) can go on where it stopped.
//
// Of a client nothing is in flight: every request that was taken has been answered, and what had
// arrived of the next one is in `leftover`. Values, but for the descriptors they own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/io/unique_fd.h"
#include "nbdserver/listen_protection.h"
#include "nbdserver/meta_context.h"
#include "nbdserver/request_rules.h"

namespace blockmig {

struct ParkedClient {
  UniqueFd socket;
  std::string export_name;
  nbd::TransmissionRules rules;  ///< as the client was told
  std::vector<nbd::MetaContext> contexts;
  std::vector<std::byte> leftover;
};

struct ParkedListener {
  UniqueFd socket;
  bool owned = false;  ///< the address ends with it
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

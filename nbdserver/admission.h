// SPDX-License-Identifier: Apache-2.0
// Admission: which connections are taken at all, before a byte is exchanged.
//
// Use: refusal() of a new connection; when there is none admit() it, and leave() when it ends. A
// peer is what StreamPeer::origin says: a user behind a unix socket, a host behind TCP, a guest
// behind vsock. No I/O. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/io/stream.h"
#include "nbdserver/limits.h"

namespace blockmig {

/// Who may connect through a unix socket, by the kernel's word (SO_PEERCRED, SO_PEERGROUPS). Both
/// lists empty: everybody who can open the socket. Otherwise the user's number must be in one, or
/// one of the groups that the process is in must be in the other. Other kinds of connections have
/// no such credentials and are not judged here.
struct PeerRules {
  std::vector<std::uint32_t> allowed_uids;
  std::vector<std::uint32_t> allowed_gids;

  bool restrict() const { return !allowed_uids.empty() || !allowed_gids.empty(); }
  bool allow(const PeerCredentials& peer) const;
};

enum class NbdRefusalReason : std::uint8_t {
  kPeerNotAllowed,
  kTooManyConnections,
  kTooManyOfPeer,
  kStopping,
};
inline constexpr std::size_t kNbdRefusalReasons = 4;
/// For metrics and logs: "peer-not-allowed" …
const char* to_string(NbdRefusalReason reason);

class Admission final {
 public:
  Admission(const NbdServerLimits& limits, PeerRules rules)
      : max_connections_(limits.max_connections),
        max_per_peer_(limits.max_connections_per_peer),
        rules_(std::move(rules)) {}

  std::optional<NbdRefusalReason> refusal(const StreamPeer& peer) const;
  void admit(const StreamPeer& peer);
  void leave(const StreamPeer& peer);

  std::uint32_t connections() const { return connections_; }

 private:
  const std::uint32_t max_connections_;
  const std::uint32_t max_per_peer_;
  const PeerRules rules_;
  std::uint32_t connections_ = 0;
  std::map<std::string, std::uint32_t> per_peer_;  ///< no entry for nobody
};

}  // namespace blockmig

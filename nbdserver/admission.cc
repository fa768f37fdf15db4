// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/admission.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {

bool PeerRules::allow(const PeerCredentials& peer) const {
  const auto has = [](const std::vector<std::uint32_t>& list, std::uint32_t id) {
    return std::find(list.begin(), list.end(), id) != list.end();
  };
  if (!restrict() || has(allowed_uids, peer.uid)) return true;
  return std::any_of(peer.gids.begin(), peer.gids.end(),
                     [&](std::uint32_t gid) { return has(allowed_gids, gid); });
}

const char* to_string(NbdRefusalReason reason) {
  switch (reason) {
    case NbdRefusalReason::kPeerNotAllowed:
      return "peer-not-allowed";
    case NbdRefusalReason::kTooManyConnections:
      return "too-many-connections";
    case NbdRefusalReason::kTooManyOfPeer:
      return "too-many-of-peer";
    case NbdRefusalReason::kStopping:
      return "stopping";
  }
  return "";
}

std::optional<NbdRefusalReason> Admission::refusal(const StreamPeer& peer) const {
  if (peer.credentials && !rules_.allow(*peer.credentials)) {
    return NbdRefusalReason::kPeerNotAllowed;
  }
  if (connections_ >= max_connections_) return NbdRefusalReason::kTooManyConnections;
  const auto found = per_peer_.find(peer.origin);
  const bool full = found != per_peer_.end() && found->second >= max_per_peer_;
  if (full && !peer.origin.empty()) return NbdRefusalReason::kTooManyOfPeer;
  return std::nullopt;
}

void Admission::admit(const StreamPeer& peer) {
  ++connections_;
  ++per_peer_[peer.origin];
}

void Admission::leave(const StreamPeer& peer) {
  const auto found = per_peer_.find(peer.origin);
  BM_CHECK(connections_ != 0 && found != per_peer_.end());
  --connections_;
  if (--found->second == 0) per_peer_.erase(found);
}

}  // namespace blockmig

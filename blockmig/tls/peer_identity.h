// SPDX-License-Identifier: Apache-2.0
// PeerIdentity: one proven fact of who the other side is. A peer may have several (a certificate's
// subject and its alternative names; the user and groups of a process), or none.
//
// Only what was proven belongs here: names out of a certificate that was verified, the user of a
// pre-shared key, the credentials that the kernel gives for a unix socket. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace blockmig {

struct PeerIdentity {
  enum class Kind : std::uint8_t {
    kCertificateDn,  ///< subject, as RFC 4514 writes it: "CN=vm1,O=Example"
    kCertificateCn,  ///< the subject's common name, where there is exactly one
    kDns,            ///< subject alternative names
    kEmail,
    kUri,
    kIp,
    kPskUser,
    kUnixUser,   ///< number of a user id, in decimal
    kUnixGroup,  ///< number of a group id, in decimal
  };
  Kind kind = Kind::kCertificateDn;
  std::string name;
  friend bool operator==(const PeerIdentity&, const PeerIdentity&) = default;
};

using PeerIdentities = std::vector<PeerIdentity>;

/// The kind as rules and logs write it: "dn", "cn", "dns", "email", "uri", "ip", "psk", "uid",
/// "gid".
constexpr std::string_view to_string(PeerIdentity::Kind kind) {
  switch (kind) {
    case PeerIdentity::Kind::kCertificateDn:
      return "dn";
    case PeerIdentity::Kind::kCertificateCn:
      return "cn";
    case PeerIdentity::Kind::kDns:
      return "dns";
    case PeerIdentity::Kind::kEmail:
      return "email";
    case PeerIdentity::Kind::kUri:
      return "uri";
    case PeerIdentity::Kind::kIp:
      return "ip";
    case PeerIdentity::Kind::kPskUser:
      return "psk";
    case PeerIdentity::Kind::kUnixUser:
      return "uid";
    case PeerIdentity::Kind::kUnixGroup:
      return "gid";
  }
  return "";
}

}  // namespace blockmig

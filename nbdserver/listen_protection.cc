// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/listen_protection.h"

#include <string>

namespace blockmig {

ListenProtection protection_of(const NbdSecurity* security, const PeerRules& peers) {
  ListenProtection protection;
  protection.users = peers.restrict();
  protection.plain_meant = security == nullptr || security->tls == TlsMode::kOn ||
                           (security->tls == TlsMode::kOff && security->open_to_networks);
  if (security == nullptr) return protection;
  protection.tls = security->tls == TlsMode::kRequire;
  protection.rules = security->access.has_rules();
  return protection;
}

Status check_network(const SocketAddress& address, const ListenProtection& now) {
  if (now.tls || now.plain_meant || !address.is_on_a_network()) return {};
  return Error(ErrorCode::kInvalid,
               address.to_string() +
                   ": without TLS everybody who reaches it could read and write the disks: start "
                   "the server with --tls-certs or --tls-psk, listen on 127.0.0.1, or say "
                   "--tls off");
}

Status check_kept(const SocketAddress& address, const ListenProtection& before,
                  const ListenProtection& now) {
  std::string lost;
  const auto lose = [&lost](const char* option) {
    lost += (lost.empty() ? "" : ", ") + std::string(option);
  };
  if (before.tls && !now.tls && !now.plain_meant) lose("--tls require");
  if (before.rules && !now.rules) lose("--allow");
  const bool has_users = address.family == SocketAddress::Family::kUnix;
  if (has_users && before.users && !now.users) lose("--allow-uid or --allow-gid");
  if (lost.empty()) return {};
  return Error(ErrorCode::kInvalid, address.to_string() + " was listened on with " + lost +
                                        ": without that others could read and write the disks: "
                                        "start the daemon with it again");
}

}  // namespace blockmig

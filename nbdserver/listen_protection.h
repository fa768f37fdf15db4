// SPDX-License-Identifier: Apache-2.0
// ListenProtection: what keeps strangers from the exports behind a listener, as far as it must not
// get lost when another server goes on with the listener, or a later one opens it again: nobody
// shall serve disks to strangers by leaving something out. Pure; any thread.
#pragma once

#include "blockmig/base/error.h"
#include "blockmig/io/stream.h"
#include "nbdserver/admission.h"
#include "nbdserver/security.h"

namespace blockmig {

struct ListenProtection {
  bool tls = false;          ///< TLS is required
  bool rules = false;        ///< which identity sees which export (ExportAccess)
  bool users = false;        ///< who may connect to unix sockets (PeerRules)
  bool plain_meant = false;  ///< service without TLS was asked for, not left over
  friend bool operator==(const ListenProtection&, const ListenProtection&) = default;
};

/// `security` null: no TLS and no rules, and that is meant.
ListenProtection protection_of(const NbdSecurity* security, const PeerRules& peers);

/// kInvalid: other machines reach the address, and nobody has said that it may be plain.
Status check_network(const SocketAddress& address, const ListenProtection& now);
/// kInvalid: `before` kept out whom `now` would let in, by the names of the daemon's options.
Status check_kept(const SocketAddress& address, const ListenProtection& before,
                  const ListenProtection& now);

}  // namespace blockmig

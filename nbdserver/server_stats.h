// SPDX-License-Identifier: Apache-2.0
// What an NbdServer counts over all its connections, and tells whoever wants to log it.
// Every reason is one of a fixed list, so that metrics stay bounded whatever peers do. Thread rule:
// values; the observer, the server's loop.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "nbdserver/admission.h"

namespace blockmig {

struct NbdClientInfo;

/// Why a connection that was taken never came to serve a disk.
enum class NbdHandshakeFailure : std::uint8_t {
  kClosed,         ///< the peer went away in the middle
  kProtocol,       ///< it broke the rules of the negotiation
  kLimit,          ///< it asked too much: options, bytes
  kTimeout,        ///< it did not come to the point in time (I16)
  kUnknownExport,  ///< it asked for a disk that is not there, or not for it, and left
  kTlsRequired,    ///< it would not use TLS and left
  kTls,            ///< the TLS handshake failed
  kShutdown,       ///< we are stopping, or it was cut
};
inline constexpr std::array kNbdHandshakeFailures = {
    NbdHandshakeFailure::kClosed,        NbdHandshakeFailure::kProtocol,
    NbdHandshakeFailure::kLimit,         NbdHandshakeFailure::kTimeout,
    NbdHandshakeFailure::kUnknownExport, NbdHandshakeFailure::kTlsRequired,
    NbdHandshakeFailure::kTls,           NbdHandshakeFailure::kShutdown};
/// For metrics and logs: "closed", "protocol", "limit", "timeout", "unknown-export" …
const char* to_string(NbdHandshakeFailure failure);

/// Why a client that was served is gone.
enum class NbdClientEnd : std::uint8_t {
  kLeft,      ///< DISC, or the connection ended
  kProtocol,  ///< it broke the protocol: what it sent could not be a request
  kCut,       ///< by us: `disconnect`, a detached disk, a limit
  kShutdown,  ///< the server stopped
};
inline constexpr std::array kNbdClientEnds = {NbdClientEnd::kLeft, NbdClientEnd::kProtocol,
                                              NbdClientEnd::kCut, NbdClientEnd::kShutdown};
/// "left", "protocol", "cut", "shutdown".
const char* to_string(NbdClientEnd end);

/// Totals since the server was made. A value.
struct NbdServerStats {
  std::uint64_t accepted = 0;  ///< connections taken
  std::uint64_t served = 0;    ///< of these, came to serve a disk
  std::array<std::uint64_t, kNbdRefusalReasons> refused{};
  std::array<std::uint64_t, kNbdHandshakeFailures.size()> handshake_failures{};
  std::array<std::uint64_t, kNbdClientEnds.size()> ended{};
  std::uint64_t refused_requests = 0;  ///< answered with an error without being tried
  std::uint64_t tls_sessions = 0;      ///< TLS handshakes that succeeded
};

/// Is told what happens to connections, at once. Calls come from the server's loop and from within
/// it: they must not block, nor call the server.
class NbdServerObserver {
 public:
  virtual ~NbdServerObserver() = default;
  /// It never came to serve a disk, and something was wrong with it.
  virtual void on_handshake_failed(const NbdClientInfo& client, NbdHandshakeFailure failure) = 0;
  /// The negotiation is over and the client is served.
  virtual void on_connected(const NbdClientInfo& client) = 0;
  /// After on_connected().
  virtual void on_gone(const NbdClientInfo& client, NbdClientEnd end) = 0;
};

}  // namespace blockmig

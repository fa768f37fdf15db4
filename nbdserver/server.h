// SPDX-License-Identifier: Apache-2.0
// NbdServer: accepts connections and runs one nbd::Session on each.
//
// Lifecycle: create, listen() any number of times, then stop(): no new connections, sessions finish
// what is in flight, answer what they can and close; after a grace time the rest is cut. Hostile
// input closes that connection only. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "nbdserver/admission.h"
#include "nbdserver/client_counters.h"
#include "nbdserver/export.h"
#include "nbdserver/limits.h"
#include "nbdserver/parked_client.h"
#include "nbdserver/security.h"
#include "nbdserver/server_stats.h"

namespace blockmig {

/// One connected client, for `blockmig ls clients` and status.
struct NbdClientInfo {
  std::uint64_t id = 0;
  std::string peer;
  std::string export_name;  ///< empty during the handshake
  std::uint64_t requests = 0;
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_written = 0;
  std::uint32_t in_flight = 0;
  ClientCounters counters;  ///< by operation, with errors; the sums are above
  Duration connected{};     ///< since it was accepted
  Duration idle{};          ///< since its last request, to the second
  std::string style;        ///< of replies: "simple", "structured", "extended"; as export_name
  bool tls = false;
  /// Who the peer has proved to be, by TLS or else by the kernel's word ("uid:1000"); empty: nobody
  /// in particular.
  std::string identity;
  std::string tls_description;  ///< "TLS1.3 AES-128-GCM"; empty without TLS
  std::string tls_error;        ///< why the TLS handshake failed, for logs
};

/// A connection that was closed before the greeting.
struct NbdRefusal {
  std::string peer;  ///< its name, with user and process where they are known
  NbdRefusalReason reason = NbdRefusalReason::kStopping;
};

struct NbdServerOptions {
  NbdServerLimits limits;
  /// Loops on other threads that connections may be served on, beside the server's own; they
  /// outlive it, and run until stop() has returned.
  std::vector<IoLoop*> other_loops;
  PeerRules peers;
  std::shared_ptr<const NbdSecurity> security;  ///< make_nbd_security(); null: no TLS, no rules
  UnixSocketOptions unix_sockets;               ///< of every unix socket that is listened on
  /// On the loop, for every refusal; it must not block, nor touch the server.
  std::function<void(const NbdRefusal&)> on_refused;
  /// The same, before a client is cut because it keeps memory that others wait for.
  std::function<void(const NbdClientInfo&)> on_stalled;
  NbdServerObserver* observer = nullptr;  ///< outlives the server
};

class NbdServer {
 public:
  virtual ~NbdServer() = default;

  /// `otherwise`: of a unix socket, where the server's options say nothing.
  virtual Status listen(const SocketAddress& address, const UnixSocketOptions& otherwise) = 0;
  Status listen(const SocketAddress& address) { return listen(address, {}); }
  /// Takes ownership of a listening socket that was made elsewhere (socket activation), also when
  /// it fails.
  virtual Status adopt(int listening_fd) = 0;
  /// With the ports that the kernel picked.
  virtual std::vector<SocketAddress> addresses() const = 0;
  /// It does already, also where that has another name by now, or a port that the kernel picked.
  virtual bool listens_on(const SocketAddress& wanted) const = 0;
  /// Serves one client on an open connection (socket activation, --stdio, tests); returns when it
  /// left.
  virtual Task<void> serve_stream(std::unique_ptr<Stream> stream) = 0;
  virtual std::vector<NbdClientInfo> clients() const = 0;
  virtual NbdServerStats stats() const { return {}; }
  /// Cuts one client; kNotFound if it is gone.
  virtual Status disconnect(std::uint64_t client_id) = 0;
  /// Ends without a word to the clients: their connections, and the listeners, are in the result,
  /// for a server that goes on with them. Who negotiates gets a second, before anybody waits, and
  /// is cut then; TLS has no place there. Who waits for a store gets `patience`; stragglers get a
  /// second of it, for everybody else waits meanwhile. Clients that cannot change hands (TLS,
  /// pipes) are stragglers too. With kCut whoever is left after that is cut, and what they have
  /// asked a store for may hang in it still. Errors, after which everybody else is served as
  /// before: kPrecondition, there are such; kTimedOut, naming one that is not ready in time:
  /// kRefuse alone. After success only stop() is left.
  virtual Task<Result<ParkedServer>> park(Duration patience, Stragglers stragglers) {
    (void)patience, (void)stragglers;
    co_return Error(ErrorCode::kNotSupported, "this server cannot be handed over");
  }
  /// Whether a server that is protected like that may go on with the listeners. As resume().
  virtual Status check_successor(const ListenProtection& successor) const {
    (void)successor;
    return {};
  }
  /// Goes on with what another server has parked. Listeners that were protected better, or that
  /// other machines reach and nobody has said so, are closed (kInvalid; check_kept()). Clients
  /// whose export is not there, is not what they were told, or is not for them by this server's
  /// rules, are cut, and the first of them is the result; the others are served.
  virtual Status resume(ParkedServer parked) {
    (void)parked;
    return Error(ErrorCode::kNotSupported, "this server cannot go on with another's clients");
  }
  /// Ends as described above; after `grace` the remaining connections are cut.
  virtual Task<void> stop(Duration grace) = 0;
};

/// `loop` for timers and streams; `directory` outlives the server.
std::unique_ptr<NbdServer> make_nbd_server(IoLoop& loop, ExportDirectory& directory,
                                           const NbdServerOptions& options);
/// With nothing but limits.
std::unique_ptr<NbdServer> make_nbd_server(IoLoop& loop, ExportDirectory& directory,
                                           const NbdServerLimits& limits);

}  // namespace blockmig

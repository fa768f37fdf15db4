// SPDX-License-Identifier: Apache-2.0
// Session: one client's connection from its first byte to its last.
//
//   run(): greet ▸ negotiate (Handshake ▸ TLS handshake ▸ another Handshake, all under one
//          deadline, I16) ▸ transmit (Transmission) ▸ close
//
// What a client may see follows from who it has proven to be (VisibleExports): by the credentials
// that the kernel knows of it, and inside TLS also by its certificate or key.
//
// begin_shutdown(): the negotiation refuses what comes, the transmission drains; then the stream
// closes. cut() ends both directions at once; run() still waits for requests that the device has
// not finished, because it has borrowed their buffers. Nothing that a peer sends ends anything but
// its own session. The negotiation runs on the home loop, the transmission where TransmissionHost
// puts it. Thread rule: the home loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "nbdserver/export.h"
#include "nbdserver/handshake.h"
#include "nbdserver/parked_client.h"
#include "nbdserver/security.h"
#include "nbdserver/server.h"
#include "nbdserver/server_loop.h"
#include "nbdserver/transmission_host.h"

namespace blockmig::nbd {

/// Who is at the other end of a unix socket, by the kernel's word; nobody behind any other.
PeerIdentities socket_identities(const StreamPeer& peer);

class Session final {
 public:
  /// `loops` and `directory` outlive the session. `security` null: no TLS, and every export for
  /// everybody.
  Session(ServerLoops& loops, ExportDirectory& directory, const NbdServerLimits& limits,
          std::unique_ptr<Stream> stream, std::uint64_t id,
          std::shared_ptr<const NbdSecurity> security = nullptr);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Goes on with a client of another server, whose socket is `stream`, instead of negotiating.
  void resume(Negotiated negotiated, std::vector<std::byte> leftover, const ClientPast& past);
  /// Serves the client; once. Afterwards the session may be destroyed.
  Task<void> run();
  void begin_shutdown();
  void cut();
  /// False: its stream (TLS, a pipe) cannot change hands.
  bool can_park() const { return stream_->can_release(); }
  /// Ends run() as soon as nothing is in flight, without a word to the client; a negotiation goes
  /// on until it is done. Then take_parked(), unless the client was quicker to leave.
  void park();
  std::optional<ParkedClient> take_parked();
  /// Is told when the client begins to be served. Before run(); null: nobody.
  void observe(NbdServerObserver* observer) { observer_ = observer; }
  /// For a sweep now and then.
  void release_idle_memory();
  NbdClientInfo info() const;
  /// Requests refused by this session, without those of the client's past.
  std::uint64_t refused_here() const;
  /// True once the negotiation has led to a disk.
  bool served() const { return host_ != nullptr; }

  // After run().
  /// Why it was not served; none where the client just looked around and left in order.
  std::optional<NbdHandshakeFailure> handshake_failure() const { return failure_; }
  /// Why it is not served any more.
  NbdClientEnd end() const;

 private:
  /// What came behind the last option.
  struct Input;
  Task<std::optional<Negotiated>> negotiate(Input& input);
  /// `extend` hears of the looks that are not counted.
  Task<void> negotiate_options(Handshake& handshake, Input& input,
                               const std::function<void(std::uint64_t)>& extend);
  Task<void> wait_for_late(const Handshake& handshake, const Input& input);
  Task<Status> start_tls();
  Task<Status> send_output(Handshake& handshake);
  PeerIdentities known_identities() const;
  ClientPast past() const;

  ServerLoops& loops_;
  EventLoop& loop_;
  ExportDirectory& directory_;
  const NbdServerLimits limits_;
  const std::shared_ptr<const NbdSecurity> security_;
  std::unique_ptr<Stream> stream_;
  PeerIdentities identities_;  ///< proven inside TLS
  NbdClientInfo info_;
  bool shutting_down_ = false;
  bool cut_ = false;
  bool parking_ = false;
  std::optional<Negotiated> resumed_;
  std::vector<std::byte> leftover_;     ///< of the client that is resumed
  ClientPast past_;                     ///< the same
  std::optional<ParkedClient> parked_;  ///< after run()
  NbdServerObserver* observer_ = nullptr;
  std::optional<NbdHandshakeFailure> failure_;
  TimePoint begun_;
  TimePoint late_until_;             ///< nobody waits longer for an export that is late
  TimePoint last_request_;           ///< to the second: seen by the sweep
  std::uint64_t requests_seen_ = 0;  ///< by the sweep
  bool rests_ = false;               ///< idle since the last sweep, and told to release memory
  Handshake* handshake_ = nullptr;   ///< while negotiating
  std::unique_ptr<TransmissionHost> host_;  ///< from the end of the negotiation on
};

}  // namespace blockmig::nbd

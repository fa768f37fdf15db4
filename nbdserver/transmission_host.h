// SPDX-License-Identifier: Apache-2.0
// TransmissionHost: runs the transmission of one session, at home or on another loop.
//
//   home                                      place
//   run() ── stream off the home loop ──────▶ stream onto this loop, Transmission, its end
//     ◀───────────── result ────────────────
//
// Only the Transmission and its stream move. The session, the export and the lane stay at home and
// are destroyed there, after run() has returned. Asking for a shutdown or a cut is posted to the
// place; what arrives there after the end does nothing.
//
// Lifecycle: run() once; then destroy. Thread rule: the home loop.
#pragma once

#include <memory>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "nbdserver/export_lane.h"
#include "nbdserver/handshake.h"
#include "nbdserver/parked_client.h"
#include "nbdserver/server.h"
#include "nbdserver/server_loop.h"
#include "nbdserver/transmission.h"

namespace blockmig::nbd {

class TransmissionHost final {
 public:
  /// `wanted` is where the connection should live; it stays at `home` if its stream or its export
  /// cannot move. All of them, and `stream`, outlive this object.
  TransmissionHost(ServerLoop& home, ServerLoop& wanted, Stream& stream, Negotiated negotiated,
                   const NbdServerLimits& limits);
  ~TransmissionHost();
  TransmissionHost(const TransmissionHost&) = delete;
  TransmissionHost& operator=(const TransmissionHost&) = delete;

  /// `leftover` as Transmission::run(). Afterwards the stream belongs to no loop if it was moved.
  /// `park`: at once, before the first request.
  Task<void> run(ConstBytes leftover, bool park = false);
  void begin_shutdown();
  /// As Transmission::cut().
  void cut();
  void release_idle_memory();
  /// As Transmission::park(); the stream stays open if it comes to that.
  void park();
  /// After run(), if it was parked: what to go on with, without the socket.
  bool parked() const { return parked_; }
  ParkedClient take_parked();

  const ClientCounters& counters() const { return counters_; }
  /// After run(): the peer sent what could not be a request.
  bool protocol_broken() const { return protocol_broken_; }
  /// Where the connection is served.
  const ServerLoop& place() const { return *place_; }

 private:
  /// What calls posted to the place hold on to: they may arrive after the end. Used there only.
  struct Running {
    Transmission* transmission = nullptr;
  };
  bool elsewhere() const { return place_ != &home_; }
  Task<Status> transmit(ConstBytes leftover, bool park);
  /// Calls `call(running)` at the place, if it still runs then.
  template <typename Call>
  void tell(Call call);

  ServerLoop& home_;
  ServerLoop* place_;
  Stream& stream_;
  const std::shared_ptr<Export> disk_;
  std::unique_ptr<ExportLane> lane_;
  const TransmissionRules rules_;
  std::vector<MetaContext> contexts_;
  const NbdServerLimits limits_;
  ClientCounters counters_;
  std::shared_ptr<Running> running_ = std::make_shared<Running>();
  bool protocol_broken_ = false;
  bool parked_ = false;
  std::vector<std::byte> leftover_;
};

}  // namespace blockmig::nbd

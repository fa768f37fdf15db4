// SPDX-License-Identifier: Apache-2.0
// Session: one client's connection from its first byte to its last.
//
//   run(): greet ▸ negotiate (Handshake, under a deadline, I16) ▸ transmit (Transmission) ▸ close
//
// begin_shutdown(): the negotiation refuses what comes, the transmission drains; then the stream
// closes. cut() ends both directions at once; run() still waits for requests that the device has
// not finished, because it has borrowed their buffers. Nothing that a peer sends ends anything but
// its own session. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/task.h"
#include "nbdserver/buffer_pool.h"
#include "nbdserver/export.h"
#include "nbdserver/server.h"
#include "nbdserver/transmission.h"

namespace blockmig::nbd {

class Session final {
 public:
  /// `loop`, `directory` and `pool` outlive the session.
  Session(EventLoop& loop, ExportDirectory& directory, BufferPool& pool,
          const NbdServerLimits& limits, std::unique_ptr<Stream> stream, std::uint64_t id);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  /// Serves the client; once. Afterwards the session may be destroyed.
  Task<void> run();
  void begin_shutdown();
  void cut();
  /// For a sweep now and then.
  void release_idle_memory();
  NbdClientInfo info() const;

 private:
  /// What came behind the last option.
  struct Input;
  Task<std::optional<Negotiated>> negotiate(Input& input);
  Task<Status> send_output(Handshake& handshake);

  EventLoop& loop_;
  ExportDirectory& directory_;
  BufferPool& pool_;
  const NbdServerLimits limits_;
  std::unique_ptr<Stream> stream_;
  NbdClientInfo info_;
  bool shutting_down_ = false;
  Handshake* handshake_ = nullptr;  ///< while negotiating
  std::unique_ptr<Transmission> transmission_;
};

}  // namespace blockmig::nbd

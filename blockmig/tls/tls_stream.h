// SPDX-License-Identifier: Apache-2.0
// TlsStream: a Stream that seals what goes through it, over any other Stream.
//
// Lifecycle: make it around a connected stream, await handshake() once, then use it as a stream;
// before the handshake has succeeded only shutdown() is allowed. One reader and one writer, which
// may overlap. shutdown() at any time, also during the handshake: it sends close_notify if that
// goes without waiting, and ends the stream below.
//
// It has no loop and no descriptor of its own: detach() and attach() are those of the stream below.
// A peer's end without close_notify is an error (kDisconnected): the data may have been cut.
// Memory: 16 KiB before the peer is known; then TlsSession's two buffers while data flows, given
// back by release_idle_memory(). Thread rule: that of the stream below.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "blockmig/io/stream.h"
#include "blockmig/tls/credentials.h"
#include "blockmig/tls/handshake_steps.h"
#include "blockmig/tls/peer_identity.h"
#include "blockmig/tls/tls_session.h"

namespace blockmig {

class TlsStream final : public Stream {
 public:
  /// `expected_host`: see TlsSession; empty for servers and for pre-shared keys.
  TlsStream(std::unique_ptr<Stream> inner, std::shared_ptr<const TlsCredentials> credentials,
            std::string expected_host, const TlsLimits& limits);
  ~TlsStream() override;

  /// kProtocol: the peer speaks no TLS, or proved not to be who it must be; kDisconnected. Has no
  /// deadline of its own: shutdown() ends it. After an error the stream is of no more use.
  /// With `steps` the arithmetic is done there, else on the spot.
  Task<Status> handshake(HandshakeSteps* steps = nullptr);
  /// As TlsSession has them.
  const PeerIdentities& identities() const { return session_.identities(); }
  const std::string& description() const { return session_.description(); }

  Task<Result<std::size_t>> read_some(MutableBytes into) override;
  Result<std::size_t> try_read(MutableBytes into, bool* ended) override;
  Task<Status> write_all(std::span<const ConstBytes> parts) override;
  bool peer_has_ended() const override { return inner_->peer_has_ended(); }
  bool peer_is_gone() const override { return inner_->peer_is_gone(); }
  void shutdown() override;
  void release_idle_memory() override;
  std::string peer_name() const override { return inner_->peer_name(); }
  StreamPeer peer() const override { return inner_->peer(); }
  bool detach() override { return inner_->detach(); }
  void attach(IoLoop& loop) override { inner_->attach(loop); }

 private:
  Task<Result<bool>> handshake_step(HandshakeSteps* steps, const std::string& origin);
  Task<Status> flush();
  Result<std::size_t> open(MutableBytes into, bool* ended);
  void send_without_waiting();
  Error truncated() const;
  Error shut_down() const;

  std::unique_ptr<Stream> inner_;
  TlsSession session_;
  std::vector<std::byte> outgoing_;  ///< what the stream below is sending
  bool writing_ = false;
  bool stepping_ = false;  ///< another thread has the session: keep away from it
  bool shut_ = false;
};

}  // namespace blockmig

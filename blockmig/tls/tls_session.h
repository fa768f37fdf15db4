// SPDX-License-Identifier: Apache-2.0
// TlsSession: one TLS connection as a machine without I/O: sealed bytes in, sealed bytes out.
//
//   kHandshake ──handshake() done──▶ kOpen ──the peer's close_notify──▶ kEnded
//        └──────────────┬───────────────┘
//                       ▼ any error
//                    kFailed
//
// Use: put what arrived into room() and call received(); send and empty output(). Bytes are
// taken from the input and appended to the output by the calls below, which never wait.
// TLS 1.2 and 1.3 only. Renegotiation (1.2) is refused: it could change who the peer is. A change
// of keys (1.3) is followed; the answer that a peer may demand leaves before the next data, as RFC
// 8446, 4.6.3 allows. No resumption: each session proves identity anew. Thread rule: one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/gather.h"
#include "blockmig/tls/credentials.h"
#include "blockmig/tls/peer_identity.h"

struct gnutls_session_int;

namespace blockmig {

struct TlsLimits {
  /// What a peer may send before the handshake is done (I16).
  std::size_t max_handshake_bytes = 64 * 1024;
};

class TlsSession final {
 public:
  enum class State : std::uint8_t { kHandshake, kOpen, kEnded, kFailed };

  /// Plain bytes of a record ("Record layer", RFC 8446, 5.1).
  static constexpr std::size_t kRecordBytes = 16 * 1024;
  /// What room() offers: many records for one receive, once the peer is known.
  static constexpr std::size_t kInputBytes = 256 * 1024;
  static constexpr std::size_t kHandshakeInputBytes = 16 * 1024;
  /// What one seal() takes at most: enough for one large send, and what a peer that does not read
  /// can make us hold.
  static constexpr std::size_t kMaxSealBytes = 256 * 1024;

  /// `expected_host`: for clients with certificates, the name or address that the server's
  /// certificate must be for; without one every server is refused.
  TlsSession(std::shared_ptr<const TlsCredentials> credentials, std::string expected_host,
             const TlsLimits& limits);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  /// Goes on with the handshake; true when it is done, false if it needs input. Output may be there
  /// in every case, also after an error (the alert).
  Result<bool> handshake();
  /// Opens records into `into` until it is full or the input is used up. 0: more input is needed,
  /// or, in state kEnded, nothing will follow.
  Result<std::size_t> open(MutableBytes into);
  /// Seals bytes of `gather` in full records, as long as it may; advances it.
  Status seal(Gather& gather);
  /// Says that nothing will follow (close_notify).
  void say_goodbye();

  /// Where to put sealed bytes; not empty when handshake() or open() asked for input.
  MutableBytes room();
  void received(std::size_t bytes) { input_end_ += bytes; }
  std::vector<std::byte>& output() { return output_; }
  /// Gives the input buffer's pages back to the kernel if nothing is in it; a receive may be
  /// waiting in it.
  void release_idle_memory();

  State state() const { return state_; }
  /// Who the peer has proven to be; empty before kOpen, and for a client without a certificate.
  const PeerIdentities& identities() const { return identities_; }
  /// "TLS1.3 AES-128-GCM"; empty before kOpen.
  const std::string& description() const { return description_; }
  const TlsCredentials& credentials() const { return *credentials_; }

 private:
  struct Callbacks;
  struct FreePages {
    void operator()(std::byte* pages) const;
  };

  Status set_up();
  Error fail(int error, const char* operation);
  int verify_peer();
  void learn_peer();
  Status seal_bytes(ConstBytes bytes);
  bool input_empty() const { return input_begin_ == input_end_; }

  const std::shared_ptr<const TlsCredentials> credentials_;
  const std::string expected_host_;
  const TlsLimits limits_;
  gnutls_session_int* session_ = nullptr;
  State state_ = State::kHandshake;
  Status set_up_;
  Error failure_{ErrorCode::kProtocol};
  std::string verdict_;  ///< why the peer's certificate was refused

  std::unique_ptr<std::byte, FreePages> input_;
  std::size_t input_capacity_ = 0;
  std::size_t input_begin_ = 0;
  std::size_t input_end_ = 0;
  std::size_t handshake_bytes_ = 0;  ///< taken from the input before kOpen
  std::vector<std::byte> output_;
  std::unique_ptr<std::byte[]> staging_;  ///< a record's worth of small parts

  PeerIdentities identities_;
  std::string description_;
};

}  // namespace blockmig

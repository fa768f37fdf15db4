// SPDX-License-Identifier: Apache-2.0
// RawTlsClient: a TLS client straight on the library, which can do what ours never would (old
// versions, renegotiation, changes of keys), against a TlsSession in memory.
#pragma once

#include <string>
#include <vector>

#include "tls_rig.h"

struct gnutls_session_int;
struct gnutls_psk_client_credentials_st;

namespace blockmig {

class RawTlsClient final {
 public:
  /// The user "alice" of psk_server().
  explicit RawTlsClient(const std::string& priority);
  ~RawTlsClient();

  /// Both sides in turn, until neither goes on. True if both have finished.
  bool handshake_with(TlsSession& server);
  /// Its first flight.
  Bytes hello();
  /// Sealed bytes for the server; empty ones make an empty record.
  void send(std::string_view text);
  void ask_to_renegotiate();
  /// A change of keys that demands the same of the other side.
  bool change_keys();
  /// Hands over what was sent.
  void deliver_to(TlsSession& server);
  /// What the server sent, opened; "!" and the reason where that fails.
  std::string receive_from(TlsSession& server);
  Bytes& sent() { return sent_; }
  /// Of the handshake; 0 while it goes on.
  int error() const { return error_; }

 private:
  struct Callbacks;
  gnutls_session_int* session_ = nullptr;
  gnutls_psk_client_credentials_st* credentials_ = nullptr;
  Bytes sent_;
  Bytes arrived_;
  int error_ = 0;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "raw_client.h"

#include <gnutls/gnutls.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace blockmig {

struct RawTlsClient::Callbacks {
  static ssize_t push(gnutls_transport_ptr_t self, const void* data, std::size_t size) {
    auto& sent = static_cast<RawTlsClient*>(self)->sent_;
    const auto* bytes = static_cast<const std::byte*>(data);
    sent.insert(sent.end(), bytes, bytes + size);
    return static_cast<ssize_t>(size);
  }
  static ssize_t pull(gnutls_transport_ptr_t self, void* into, std::size_t size) {
    auto& client = *static_cast<RawTlsClient*>(self);
    const std::size_t count = std::min(size, client.arrived_.size());
    if (count == 0) {
      gnutls_transport_set_errno(client.session_, EAGAIN);
      return -1;
    }
    std::memcpy(into, client.arrived_.data(), count);
    client.arrived_.erase(client.arrived_.begin(),
                          client.arrived_.begin() + static_cast<std::ptrdiff_t>(count));
    return static_cast<ssize_t>(count);
  }
};

RawTlsClient::RawTlsClient(const std::string& priority) {
  std::string secret = kPskSecret;
  const gnutls_datum_t key = {reinterpret_cast<unsigned char*>(secret.data()),
                              static_cast<unsigned>(secret.size())};
  if (gnutls_init(&session_, GNUTLS_CLIENT | GNUTLS_NONBLOCK) != 0 ||
      gnutls_priority_set_direct(session_, priority.c_str(), nullptr) != 0 ||
      gnutls_psk_allocate_client_credentials(&credentials_) != 0 ||
      gnutls_psk_set_client_credentials(credentials_, "alice", &key, GNUTLS_PSK_KEY_RAW) != 0 ||
      gnutls_credentials_set(session_, GNUTLS_CRD_PSK, credentials_) != 0) {
    std::abort();
  }
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_push_function(session_, Callbacks::push);
  gnutls_transport_set_pull_function(session_, Callbacks::pull);
}

RawTlsClient::~RawTlsClient() {
  gnutls_deinit(session_);
  gnutls_psk_free_client_credentials(credentials_);
}

Bytes RawTlsClient::hello() {
  error_ = gnutls_handshake(session_);
  return sent_;
}

void RawTlsClient::deliver_to(TlsSession& server) {
  while (!sent_.empty()) {
    const MutableBytes room = server.room();
    const std::size_t count = std::min(room.size(), sent_.size());
    if (count == 0) return;
    std::copy_n(sent_.begin(), count, room.begin());
    server.received(count);
    sent_.erase(sent_.begin(), sent_.begin() + static_cast<std::ptrdiff_t>(count));
    if (server.state() != TlsSession::State::kHandshake) return;
  }
}

bool RawTlsClient::handshake_with(TlsSession& server) {
  bool server_done = false;
  for (int turn = 0; turn < 20; ++turn) {
    if (error_ != 0 || turn == 0) error_ = gnutls_handshake(session_);
    deliver_to(server);
    if (!server_done) {
      const Result<bool> step = server.handshake();
      if (step.ok()) server_done = *step;
    }
    arrived_.insert(arrived_.end(), server.output().begin(), server.output().end());
    server.output().clear();
    if (error_ == 0 && server_done) return true;
    if (server.state() == TlsSession::State::kFailed) {
      error_ = gnutls_handshake(session_);  // the alert
      return false;
    }
    if (error_ != 0 && gnutls_error_is_fatal(error_) != 0) return false;
  }
  return false;
}

void RawTlsClient::send(std::string_view text) {
  (void)gnutls_record_send(session_, text.data(), text.size());
}

void RawTlsClient::ask_to_renegotiate() { (void)gnutls_handshake(session_); }

bool RawTlsClient::change_keys() {
  return gnutls_session_key_update(session_, GNUTLS_KU_PEER) == 0;
}

std::string RawTlsClient::receive_from(TlsSession& server) {
  arrived_.insert(arrived_.end(), server.output().begin(), server.output().end());
  server.output().clear();
  std::string all;
  std::array<char, 4096> part;
  for (;;) {
    const ssize_t got = gnutls_record_recv(session_, part.data(), part.size());
    if (got == GNUTLS_E_AGAIN && arrived_.empty()) return all;
    if (got == GNUTLS_E_AGAIN) continue;
    if (got == 0) return all;
    if (got < 0) return "!" + std::string(gnutls_strerror(static_cast<int>(got)));
    all.append(part.data(), static_cast<std::size_t>(got));
  }
}

}  // namespace blockmig

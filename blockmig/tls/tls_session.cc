// SPDX-License-Identifier: Apache-2.0
#include "blockmig/tls/tls_session.h"

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/tls/certificate.h"
#include "blockmig/tls/credential_parts.h"

namespace blockmig {
namespace {

constexpr std::size_t kPageBytes = 4096;
/// Header, nonce, tag and padding that a record adds at most (RFC 5246, 6.2.3; RFC 8446, 5.2).
constexpr std::size_t kRecordOverheadBytes = 64;

bool is_address(const std::string& host) {
  std::array<unsigned char, 16> address{};
  return ::inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

bool wants_more(ssize_t error) { return error == GNUTLS_E_AGAIN || error == GNUTLS_E_INTERRUPTED; }

}  // namespace

/// What GnuTLS calls. It sees only memory: bytes that have come, and room for bytes to go.
struct TlsSession::Callbacks {
  static ssize_t pull(gnutls_transport_ptr_t self, void* into, std::size_t size) {
    auto& session = *static_cast<TlsSession*>(self);
    const std::size_t count = std::min(size, session.input_end_ - session.input_begin_);
    if (count == 0) {
      gnutls_transport_set_errno(session.session_, EAGAIN);
      return -1;
    }
    std::memcpy(into, session.input_.get() + session.input_begin_, count);
    session.input_begin_ += count;
    if (session.state_ == State::kHandshake) session.handshake_bytes_ += count;
    return static_cast<ssize_t>(count);
  }
  static int pull_timeout(gnutls_transport_ptr_t self, unsigned) {
    return static_cast<TlsSession*>(self)->input_empty() ? 0 : 1;
  }
  static ssize_t push(gnutls_transport_ptr_t self, const giovec_t* parts, int count) {
    auto& output = static_cast<TlsSession*>(self)->output_;
    ssize_t total = 0;
    for (int i = 0; i < count; ++i) {
      const auto* bytes = static_cast<const std::byte*>(parts[i].iov_base);
      output.insert(output.end(), bytes, bytes + parts[i].iov_len);
      total += static_cast<ssize_t>(parts[i].iov_len);
    }
    return total;
  }
  static int verify(gnutls_session_t session) {
    return static_cast<TlsSession*>(gnutls_session_get_ptr(session))->verify_peer();
  }
};

void TlsSession::FreePages::operator()(std::byte* pages) const { std::free(pages); }

TlsSession::TlsSession(std::shared_ptr<const TlsCredentials> credentials, std::string expected_host,
                       const TlsLimits& limits)
    : credentials_(std::move(credentials)),
      expected_host_(std::move(expected_host)),
      limits_(limits),
      set_up_(set_up()) {}

TlsSession::~TlsSession() {
  if (session_ != nullptr) gnutls_deinit(session_);
}

Status TlsSession::set_up() {
  const TlsCredentials::Parts& parts = credentials_->parts();
  const unsigned role = parts.is_server ? GNUTLS_SERVER : GNUTLS_CLIENT;
  int error = gnutls_init(&session_, role | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);
  if (error == 0) error = gnutls_priority_set(session_, parts.priority);
  if (error == 0 && parts.certificates != nullptr) {
    error = gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, parts.certificates);
  }
  if (error == 0 && parts.psk_server != nullptr) {
    error = gnutls_credentials_set(session_, GNUTLS_CRD_PSK, parts.psk_server);
  }
  if (error == 0 && parts.psk_client != nullptr) {
    error = gnutls_credentials_set(session_, GNUTLS_CRD_PSK, parts.psk_client);
  }
  if (error == 0 && !parts.is_server && !expected_host_.empty() && !is_address(expected_host_)) {
    error = gnutls_server_name_set(session_, GNUTLS_NAME_DNS, expected_host_.data(),
                                   expected_host_.size());
  }
  if (error != 0) return gnutls_failure(ErrorCode::kNoMemory, "a TLS session", error);
  if (parts.is_server && parts.certificates != nullptr) {
    gnutls_certificate_server_set_request(
        session_, parts.require_client_certificate ? GNUTLS_CERT_REQUIRE : GNUTLS_CERT_REQUEST);
  }
  gnutls_session_set_verify_function(session_, Callbacks::verify);
  gnutls_handshake_set_max_packet_length(session_, limits_.max_handshake_bytes);
  gnutls_session_set_ptr(session_, this);
  gnutls_transport_set_ptr(session_, this);
  gnutls_transport_set_pull_function(session_, Callbacks::pull);
  gnutls_transport_set_pull_timeout_function(session_, Callbacks::pull_timeout);
  gnutls_transport_set_vec_push_function(session_, Callbacks::push);
  return {};
}

Error TlsSession::fail(int error, const char* operation) {
  std::string text = std::string(operation) + ": ";
  if (!verdict_.empty()) {
    text += verdict_;
  } else if (error == GNUTLS_E_FATAL_ALERT_RECEIVED) {
    const char* alert = gnutls_alert_get_name(gnutls_alert_get(session_));
    text += std::string("the peer refused: ") + (alert != nullptr ? alert : "unknown alert");
  } else {
    text += gnutls_strerror(error);
  }
  state_ = State::kFailed;
  failure_ = Error(error == GNUTLS_E_MEMORY_ERROR ? ErrorCode::kNoMemory : ErrorCode::kProtocol,
                   std::move(text));
  return failure_;
}

int TlsSession::verify_peer() {
  const TlsCredentials::Parts& parts = credentials_->parts();
  unsigned count = 0;
  const gnutls_datum_t* chain = gnutls_certificate_get_peers(session_, &count);
  if (chain == nullptr || count == 0) {
    if (parts.is_server && !parts.require_client_certificate) return 0;
    verdict_ = "the peer has sent no certificate";
    return GNUTLS_E_NO_CERTIFICATE_FOUND;
  }
  if (!parts.is_server && expected_host_.empty()) {
    verdict_ = "it is not known which name the server's certificate must be for";
    return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
  }
  // A certificate that was issued for the other role does not do: else any server that the
  // authority knows could act as a client.
  std::string purpose = parts.is_server ? GNUTLS_KP_TLS_WWW_CLIENT : GNUTLS_KP_TLS_WWW_SERVER;
  std::string host = expected_host_;
  gnutls_typed_vdata_st wanted[2] = {};
  wanted[0] = {GNUTLS_DT_KEY_PURPOSE_OID, reinterpret_cast<unsigned char*>(purpose.data()), 0};
  wanted[1] = {GNUTLS_DT_DNS_HOSTNAME, reinterpret_cast<unsigned char*>(host.data()), 0};
  unsigned status = 0;
  const int error =
      gnutls_certificate_verify_peers(session_, wanted, parts.is_server ? 1 : 2, &status);
  if (error != 0) return error;
  if (status == 0) return 0;
  gnutls_datum_t text{};
  if (gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0) == 0) {
    verdict_.assign(reinterpret_cast<const char*>(text.data), text.size);
    gnutls_free(text.data);
    while (!verdict_.empty() && (verdict_.back() == ' ' || verdict_.back() == '\0')) {
      verdict_.pop_back();
    }
  }
  return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

Result<bool> TlsSession::handshake() {
  if (!set_up_) return set_up_.error();
  if (state_ == State::kFailed) return failure_;
  BM_CHECK(state_ == State::kHandshake);
  for (;;) {
    const std::size_t before = input_begin_;
    const int error = gnutls_handshake(session_);
    if (error == 0) {
      learn_peer();
      state_ = State::kOpen;
      return true;
    }
    if (handshake_bytes_ > limits_.max_handshake_bytes) {
      verdict_ = "the peer sends too much";
      return fail(GNUTLS_E_HANDSHAKE_TOO_LARGE, "TLS handshake");
    }
    if (gnutls_error_is_fatal(error) != 0) {
      (void)gnutls_alert_send_appropriate(session_, error);
      return fail(error, "TLS handshake");
    }
    if (input_empty()) return false;
    if (input_begin_ == before && !wants_more(error)) return fail(error, "TLS handshake");
  }
}

void TlsSession::learn_peer() {
  const char* version = gnutls_protocol_get_name(gnutls_protocol_get_version(session_));
  const char* cipher = gnutls_cipher_get_name(gnutls_cipher_get(session_));
  description_ =
      std::string(version != nullptr ? version : "TLS") + " " + (cipher != nullptr ? cipher : "");
  if (credentials_->parts().psk_server != nullptr) {
    gnutls_datum_t user{};
    if (gnutls_psk_server_get_username2(session_, &user) == 0 && user.size != 0) {
      identities_.push_back({PeerIdentity::Kind::kPskUser,
                             std::string(reinterpret_cast<const char*>(user.data), user.size)});
      return;
    }
  }
  unsigned count = 0;
  const gnutls_datum_t* chain = gnutls_certificate_get_peers(session_, &count);
  if (chain != nullptr && count != 0) identities_ = identities_of_certificate(chain[0]);
}

Result<std::size_t> TlsSession::open(MutableBytes into) {
  if (state_ == State::kEnded) return std::size_t{0};
  if (state_ == State::kFailed) return failure_;
  BM_CHECK(state_ == State::kOpen);
  std::size_t total = 0;
  while (total < into.size()) {
    const std::size_t before = input_begin_;
    const ssize_t got = gnutls_record_recv(session_, into.data() + total, into.size() - total);
    if (got > 0) {
      total += static_cast<std::size_t>(got);
      continue;
    }
    if (got == 0) {
      state_ = State::kEnded;
      break;
    }
    const int error = static_cast<int>(got);
    const bool refused = error == GNUTLS_E_REHANDSHAKE;
    if (refused) verdict_ = "renegotiation is refused";
    if (refused || gnutls_error_is_fatal(error) != 0) {
      (void)gnutls_alert_send_appropriate(session_, error);
      const Error failure = fail(error, "TLS");
      if (total == 0) return failure;
      break;  // what came before it counts; the next call tells
    }
    if (input_empty()) break;
    if (input_begin_ == before) return fail(error, "TLS");  // it would go on for ever
  }
  return total;
}

Status TlsSession::seal(Gather& gather) {
  if (state_ == State::kFailed) return failure_;
  BM_CHECK(state_ == State::kOpen || state_ == State::kEnded);
  std::size_t sealed = 0;
  while (!gather.finished() && sealed < kMaxSealBytes) {
    ConstBytes bytes = gather.front();
    std::array<iovec, 2> next;
    if (bytes.size() < kRecordBytes && gather.fill(next) > 1) {
      // Small parts share a record: a reply's header and its data are one record, not two.
      if (!staging_) staging_ = std::make_unique_for_overwrite<std::byte[]>(kRecordBytes);
      std::size_t filled = 0;
      while (!gather.finished() && filled < kRecordBytes) {
        const ConstBytes part = gather.front();
        const std::size_t count = std::min(part.size(), kRecordBytes - filled);
        std::memcpy(staging_.get() + filled, part.data(), count);
        filled += count;
        gather.advance(count);
      }
      bytes = ConstBytes(staging_.get(), filled);
    } else {
      const std::size_t room = kMaxSealBytes - sealed;
      bytes = bytes.first(std::min(bytes.size(), std::max(room, kRecordBytes)));
      // Full records as long as there are any; the odd end joins what comes behind it.
      if (bytes.size() > kRecordBytes) {
        bytes = bytes.first(bytes.size() - bytes.size() % kRecordBytes);
      }
      gather.advance(bytes.size());
    }
    sealed += bytes.size();
    const Status done = seal_bytes(bytes);
    if (!done) return done;
  }
  return {};
}

Status TlsSession::seal_bytes(ConstBytes bytes) {
  const std::size_t records = bytes.size() / kRecordBytes + 1;
  const std::size_t needed = output_.size() + bytes.size() + records * kRecordOverheadBytes;
  if (output_.capacity() < needed) {
    output_.reserve(needed < kRecordBytes * 2
                        ? needed
                        : kMaxSealBytes + 2 * kRecordBytes +
                              (kMaxSealBytes / kRecordBytes + 2) * kRecordOverheadBytes);
  }
  while (!bytes.empty()) {
    const ssize_t sent = gnutls_record_send(session_, bytes.data(), bytes.size());
    if (wants_more(sent)) continue;  // never: the output takes everything
    if (sent < 0) return fail(static_cast<int>(sent), "TLS");
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return {};
}

void TlsSession::say_goodbye() {
  if (state_ != State::kOpen && state_ != State::kEnded) return;
  (void)gnutls_bye(session_, GNUTLS_SHUT_WR);
}

MutableBytes TlsSession::room() {
  const std::size_t wanted = state_ == State::kHandshake ? kHandshakeInputBytes : kInputBytes;
  if (input_capacity_ < wanted && input_empty()) {
    input_.reset(static_cast<std::byte*>(std::aligned_alloc(kPageBytes, wanted)));
    BM_CHECK(input_ != nullptr);
    input_capacity_ = wanted;
    input_begin_ = input_end_ = 0;
  }
  if (input_empty()) input_begin_ = input_end_ = 0;
  return {input_.get() + input_end_, input_capacity_ - input_end_};
}

void TlsSession::release_idle_memory() {
  if (!input_empty() || input_ == nullptr) return;
  // The pages read as zeros afterwards and come back when they are written to. A hint that fails is
  // no loss.
  (void)::madvise(input_.get(), input_capacity_, MADV_DONTNEED);
  staging_.reset();
  if (output_.empty()) std::vector<std::byte>().swap(output_);
}

}  // namespace blockmig

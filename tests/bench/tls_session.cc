// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/tls_session.h"

#include <gnutls/gnutls.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>
#include <vector>

namespace blockmig::bench {
namespace {

constexpr std::size_t kRecordBytes = 16 * 1024;        // the largest that TLS has
constexpr std::size_t kSendBytes = 16 * kRecordBytes;  // plain bytes in one send()
constexpr std::size_t kReceiveBytes = 512 * 1024;
constexpr const char kPriority[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK";

struct Key {
  std::string user;
  std::string hexadecimal;
};

Result<Key> read_key(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  const auto colon = line.find(':');
  if (!file || colon == std::string::npos) {
    return Error(ErrorCode::kInvalid, path + ": no line of the form user:key");
  }
  return Key{.user = line.substr(0, colon), .hexadecimal = line.substr(colon + 1)};
}

Error tls_error(const char* what, int code) {
  return Error(ErrorCode::kProtocol, std::string("TLS: ") + what + ": " + gnutls_strerror(code));
}

}  // namespace

struct TlsSession::State {
  ~State() {
    if (session) gnutls_deinit(session);
    if (credentials) gnutls_psk_free_client_credentials(credentials);
  }

  int fd = -1;
  gnutls_psk_client_credentials_t credentials = nullptr;
  gnutls_session_t session = nullptr;
  enum class Pull { kBuffered, kNoWait, kWait } pull = Pull::kWait;
  std::vector<char> in;  ///< encrypted bytes received: [in_at, in_end) are unread
  std::size_t in_at = 0;
  std::size_t in_end = 0;
  std::vector<char> out;  ///< encrypted bytes to send, from out_at
  std::size_t out_at = 0;
  std::vector<char> record;  ///< a record's plain bytes, gathered
  bool shaking_hands = true;

  static ssize_t pull_bytes(gnutls_transport_ptr_t self, void* to, size_t size);
  static int pull_wait(gnutls_transport_ptr_t, unsigned) { return 1; }
  static ssize_t push_bytes(gnutls_transport_ptr_t self, const void* from, size_t size);
  /// False with errno if something is left.
  bool flush(int flags);
};

ssize_t TlsSession::State::pull_bytes(gnutls_transport_ptr_t self, void* to, size_t size) {
  auto& s = *static_cast<State*>(self);
  if (s.in_at == s.in_end) {
    if (s.pull == Pull::kBuffered) {
      gnutls_transport_set_errno(s.session, EAGAIN);
      return -1;
    }
    const ssize_t n = ::recv(s.fd, s.in.data(), s.in.size(),
                             s.pull == Pull::kWait ? 0 : static_cast<int>(MSG_DONTWAIT));
    if (n <= 0) {
      gnutls_transport_set_errno(s.session, n < 0 ? errno : 0);
      return n;
    }
    s.in_at = 0;
    s.in_end = static_cast<std::size_t>(n);
  }
  const std::size_t n = std::min(size, s.in_end - s.in_at);
  std::memcpy(to, s.in.data() + s.in_at, n);
  s.in_at += n;
  return static_cast<ssize_t>(n);
}

ssize_t TlsSession::State::push_bytes(gnutls_transport_ptr_t self, const void* from, size_t size) {
  auto& s = *static_cast<State*>(self);
  const auto* bytes = static_cast<const char*>(from);
  s.out.insert(s.out.end(), bytes, bytes + size);
  if (s.shaking_hands && !s.flush(0)) {
    gnutls_transport_set_errno(s.session, errno);
    return -1;
  }
  return static_cast<ssize_t>(size);
}

bool TlsSession::State::flush(int flags) {
  while (out_at < out.size()) {
    const ssize_t n = ::send(fd, out.data() + out_at, out.size() - out_at, MSG_NOSIGNAL | flags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    out_at += static_cast<std::size_t>(n);
  }
  out.clear();
  out_at = 0;
  return true;
}

TlsSession::TlsSession(std::unique_ptr<State> state) : state_(std::move(state)) {}

TlsSession::~TlsSession() {
  if (!pending()) {
    gnutls_bye(state_->session, GNUTLS_SHUT_WR);
    state_->flush(MSG_DONTWAIT);
  }
}

Result<std::unique_ptr<TlsSession>> TlsSession::start(int fd, const std::string& psk_file,
                                                      const std::string& priority) {
  const Result<Key> key = read_key(psk_file);
  if (!key) return key.error();
  auto state = std::make_unique<State>();
  state->fd = fd;
  state->in.resize(kReceiveBytes);
  state->record.resize(kRecordBytes);
  state->out.reserve(kSendBytes * 2);
  const gnutls_datum_t secret{
      reinterpret_cast<unsigned char*>(const_cast<char*>(key->hexadecimal.data())),
      static_cast<unsigned>(key->hexadecimal.size())};
  int rc = gnutls_psk_allocate_client_credentials(&state->credentials);
  if (rc == 0) {
    rc = gnutls_psk_set_client_credentials(state->credentials, key->user.c_str(), &secret,
                                           GNUTLS_PSK_KEY_HEX);
  }
  if (rc == 0) rc = gnutls_init(&state->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL);
  if (rc == 0)
    rc = gnutls_priority_set_direct(state->session, priority.empty() ? kPriority : priority.c_str(),
                                    nullptr);
  if (rc == 0) {
    rc = gnutls_credentials_set(state->session, GNUTLS_CRD_PSK, state->credentials);
  }
  if (rc != 0) return tls_error("setting up", rc);
  gnutls_transport_set_ptr(state->session, state.get());
  gnutls_transport_set_pull_function(state->session, &State::pull_bytes);
  gnutls_transport_set_pull_timeout_function(state->session, &State::pull_wait);
  gnutls_transport_set_push_function(state->session, &State::push_bytes);
  do {
    rc = gnutls_handshake(state->session);
  } while (rc == GNUTLS_E_INTERRUPTED);
  if (rc != 0) return tls_error("handshake", rc);
  state->shaking_hands = false;
  return std::unique_ptr<TlsSession>(new TlsSession(std::move(state)));
}

bool TlsSession::pending() const { return state_->out_at < state_->out.size(); }

ssize_t TlsSession::send(const iovec* parts, std::size_t count) {
  State& s = *state_;
  if (!s.flush(MSG_DONTWAIT)) return -1;
  std::size_t part = 0;
  std::size_t at = 0;  // in parts[part]
  std::size_t taken = 0;
  while (part < count && taken < kSendBytes) {
    const char* from = static_cast<const char*>(parts[part].iov_base) + at;
    std::size_t size = std::min(parts[part].iov_len - at, kRecordBytes);
    at += size;
    if (at == parts[part].iov_len) ++part, at = 0;
    if (size < kRecordBytes) {  // gather what follows into the same record
      std::memcpy(s.record.data(), from, size);
      from = s.record.data();
      while (part < count && size < kRecordBytes) {
        const std::size_t more = std::min(parts[part].iov_len - at, kRecordBytes - size);
        std::memcpy(s.record.data() + size, static_cast<char*>(parts[part].iov_base) + at, more);
        size += more;
        at += more;
        if (at == parts[part].iov_len) ++part, at = 0;
      }
    }
    const ssize_t n = gnutls_record_send(s.session, from, size);
    if (n != static_cast<ssize_t>(size)) {  // it goes to memory: it cannot be taken in part
      errno = EPROTO;
      return -1;
    }
    taken += size;
  }
  if (!s.flush(MSG_DONTWAIT) && errno != EAGAIN) return -1;
  return static_cast<ssize_t>(taken);
}

ssize_t TlsSession::receive(char* out, std::size_t size, bool block) {
  State& s = *state_;
  std::size_t got = 0;
  s.pull = block ? State::Pull::kWait : State::Pull::kNoWait;
  while (got < size) {
    const ssize_t n = gnutls_record_recv(s.session, out + got, size - got);
    if (n > 0) {
      got += static_cast<std::size_t>(n);
      s.pull = State::Pull::kBuffered;  // the rest only if it is there already
      continue;
    }
    if (got > 0) break;
    if (n == 0) return 0;
    if (n == GNUTLS_E_AGAIN || n == GNUTLS_E_INTERRUPTED) {
      errno = EAGAIN;
      return -1;
    }
    if (gnutls_error_is_fatal(static_cast<int>(n))) {
      errno = EPROTO;
      return -1;
    }
  }
  return static_cast<ssize_t>(got);
}

bool TlsSession::buffered() const {
  return state_->in_at < state_->in_end || gnutls_record_check_pending(state_->session) > 0;
}

std::string TlsSession::description() const {
  char* text = gnutls_session_get_desc(state_->session);
  std::string out = text ? text : "";
  gnutls_free(text);
  return out;
}

}  // namespace blockmig::bench

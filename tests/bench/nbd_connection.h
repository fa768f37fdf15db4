// SPDX-License-Identifier: Apache-2.0
// The client side of NBD for load generators: connect, handshake, and the two fixed-size headers.
//
// Written from the specification with nothing of the server's code in it, so that both cannot share
// a mistake. Fixed newstyle, STARTTLS, NBD_OPT_GO, simple replies. Thread rule: none; no state but
// the descriptor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "tests/bench/tls_session.h"

namespace blockmig::bench {

enum class Command : std::uint16_t {
  kRead = 0,
  kWrite = 1,
  kDisconnect = 2,
  kFlush = 3,
  kTrim = 4,
  kWriteZeroes = 6,
};

inline constexpr std::uint16_t kFlagFua = 1;
inline constexpr std::size_t kRequestBytes = 28;
inline constexpr std::size_t kReplyBytes = 16;

/// Where a server listens: `unix:PATH` or `tcp:HOST:PORT`.
struct Endpoint {
  std::string unix_path;
  std::string host;
  std::string port;
  std::string export_name;
  std::string tls_psk_file;  ///< not empty: STARTTLS with the first key in it
  std::string tls_priority;  ///< see TlsSession::start()
};

/// kInvalid with a sentence that names the text.
Result<Endpoint> parse_endpoint(const std::string& address, const std::string& export_name);

/// A connection in the transmission phase. The caller closes `fd`, which is blocking, after `tls`.
struct Connection {
  int fd = -1;
  std::unique_ptr<TlsSession> tls;  ///< null without TLS
  std::uint64_t size_bytes = 0;
  std::uint16_t flags = 0;  ///< NBD_FLAG_*
};

/// Connects and negotiates; each step gives up after `timeout_seconds`.
Result<Connection> connect_export(const Endpoint& endpoint, int timeout_seconds);

/// Writes kRequestBytes to `out`.
void encode_request(char* out, Command command, std::uint16_t flags, std::uint64_t cookie,
                    std::uint64_t offset, std::uint32_t length);

struct ReplyHeader {
  std::uint32_t error = 0;  ///< NBD_E*; 0 is success
  std::uint64_t cookie = 0;
};

/// False if these kReplyBytes are no simple reply.
bool decode_reply(const char* bytes, ReplyHeader* reply);

}  // namespace blockmig::bench

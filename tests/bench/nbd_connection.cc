// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/nbd_connection.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "blockmig/base/endian.h"

namespace blockmig::bench {
namespace {

constexpr std::uint64_t kInitMagic = 0x4e42444d41474943;    // "NBDMAGIC"
constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;  // "IHAVEOPT"
constexpr std::uint64_t kOptionReplyMagic = 0x3e889045565a9;
constexpr std::uint32_t kRequestMagic = 0x25609513;
constexpr std::uint32_t kReplyMagic = 0x67446698;
constexpr std::uint16_t kFixedNewstyle = 1;
constexpr std::uint32_t kClientFlags = 3;  // FIXED_NEWSTYLE, NO_ZEROES
constexpr std::uint32_t kOptStartTls = 5;
constexpr std::uint32_t kOptGo = 7;
constexpr std::uint32_t kRepAck = 1;
constexpr std::uint32_t kRepInfo = 3;
constexpr std::uint32_t kRepErrorBit = 1u << 31;
constexpr std::uint16_t kInfoExport = 0;
constexpr std::uint16_t kInfoBlockSize = 3;
constexpr std::uint32_t kMaxOptionReply = 64 * 1024;

template <typename T>
char* put(char* to, T value) {
  store_be(to, value);
  return to + sizeof value;
}

Status send_all(const Connection& c, const char* data, std::size_t size) {
  while (size > 0 || (c.tls && c.tls->pending())) {
    const iovec part{const_cast<char*>(data), size};
    const ssize_t n =
        c.tls ? c.tls->send(&part, size > 0 ? 1 : 0) : ::send(c.fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && (errno == EINTR || (c.tls && errno == EAGAIN))) continue;
    if (n < 0) return Error::from_errno(errno, "handshake: send");
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Status receive_all(const Connection& c, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = c.tls ? c.tls->receive(data, size, true) : ::recv(c.fd, data, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) return Error(ErrorCode::kDisconnected, "handshake: the server closed");
    if (n < 0) return Error::from_errno(errno, "handshake: receive");
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Result<int> open_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return Error(ErrorCode::kInvalid, "socket path too long: " + path);
  }
  path.copy(address.sun_path, path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Error::from_errno(errno, "socket");
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int failed = errno;
    ::close(fd);
    return Error::from_errno(failed, "connect to " + path);
  }
  return fd;
}

Result<int> open_tcp(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int rc = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &found);
  if (rc != 0) {
    return Error(ErrorCode::kNotFound, host + ":" + port + ": " + ::gai_strerror(rc));
  }
  int failed = ECONNREFUSED;
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    const int fd = ::socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, a->ai_protocol);
    if (fd >= 0 && ::connect(fd, a->ai_addr, a->ai_addrlen) == 0) {
      ::freeaddrinfo(found);
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      return fd;
    }
    failed = errno;
    if (fd >= 0) ::close(fd);
  }
  ::freeaddrinfo(found);
  return Error::from_errno(failed, "connect to " + host + ":" + port);
}

Status send_option(const Connection& c, std::uint32_t option, const std::string& payload) {
  char header[16];
  char* at = put(header, kOptionMagic);
  at = put(at, option);
  put(at, static_cast<std::uint32_t>(payload.size()));
  const std::string whole = std::string(header, sizeof header) + payload;
  return send_all(c, whole.data(), whole.size());
}

Status send_go(const Connection& c, const std::string& name) {
  std::string payload(4 + name.size() + 2 + 2, '\0');
  char* at = put(payload.data(), static_cast<std::uint32_t>(name.size()));
  at = std::copy(name.begin(), name.end(), at);
  at = put(at, std::uint16_t{1});
  put(at, kInfoBlockSize);
  return send_option(c, kOptGo, payload);
}

struct OptionReply {
  std::uint32_t type = 0;
  std::vector<char> payload;
};

/// An error reply of the server is an Error.
Result<OptionReply> read_option_reply(const Connection& c) {
  char header[20];
  if (Status s = receive_all(c, header, sizeof header); !s) return s.error();
  OptionReply out;
  out.type = load_be<std::uint32_t>(header + 12);
  const auto length = load_be<std::uint32_t>(header + 16);
  if (load_be<std::uint64_t>(header) != kOptionReplyMagic || length > kMaxOptionReply) {
    return Error(ErrorCode::kProtocol, "handshake: not an option reply");
  }
  out.payload.resize(length);
  if (Status s = receive_all(c, out.payload.data(), length); !s) return s.error();
  if (out.type & kRepErrorBit) {
    return Error(ErrorCode::kNotFound, "the server refused: error " +
                                           std::to_string(out.type & ~kRepErrorBit) + " " +
                                           std::string(out.payload.begin(), out.payload.end()));
  }
  return out;
}

Status read_go_replies(Connection* connection) {
  bool seen_export = false;
  for (;;) {
    const Result<OptionReply> reply = read_option_reply(*connection);
    if (!reply) return reply.error();
    const char* payload = reply->payload.data();
    if (reply->type == kRepInfo && reply->payload.size() >= 12 &&
        load_be<std::uint16_t>(payload) == kInfoExport) {
      connection->size_bytes = load_be<std::uint64_t>(payload + 2);
      connection->flags = load_be<std::uint16_t>(payload + 10);
      seen_export = true;
    }
    if (reply->type == kRepAck) {
      if (seen_export) return {};
      return Error(ErrorCode::kProtocol, "handshake: no export information");
    }
  }
}

Status start_tls(const Endpoint& endpoint, Connection* connection) {
  if (Status s = send_option(*connection, kOptStartTls, ""); !s) return s;
  const Result<OptionReply> reply = read_option_reply(*connection);
  if (!reply) return reply.error();
  if (reply->type != kRepAck) {
    return Error(ErrorCode::kProtocol, "handshake: STARTTLS is not acknowledged");
  }
  auto session = TlsSession::start(connection->fd, endpoint.tls_psk_file, endpoint.tls_priority);
  if (!session) return session.error();
  connection->tls = *std::move(session);
  return {};
}

Status handshake(const Endpoint& endpoint, Connection* connection) {
  char greeting[18];
  if (Status s = receive_all(*connection, greeting, sizeof greeting); !s) return s;
  if (load_be<std::uint64_t>(greeting) != kInitMagic ||
      load_be<std::uint64_t>(greeting + 8) != kOptionMagic ||
      (load_be<std::uint16_t>(greeting + 16) & kFixedNewstyle) == 0) {
    return Error(ErrorCode::kProtocol, "handshake: not a fixed newstyle server");
  }
  char flags[4];
  put(flags, kClientFlags);
  if (Status s = send_all(*connection, flags, sizeof flags); !s) return s;
  if (!endpoint.tls_psk_file.empty()) {
    if (Status s = start_tls(endpoint, connection); !s) return s;
  }
  if (Status s = send_go(*connection, endpoint.export_name); !s) return s;
  return read_go_replies(connection);
}

}  // namespace

Result<Endpoint> parse_endpoint(const std::string& address, const std::string& export_name) {
  Endpoint out;
  out.export_name = export_name;
  if (address.starts_with("unix:")) {
    out.unix_path = address.substr(5);
    if (!out.unix_path.empty()) return out;
  }
  const auto colon = address.rfind(':');
  if (address.starts_with("tcp:") && colon > 4) {
    out.host = address.substr(4, colon - 4);
    out.port = address.substr(colon + 1);
    if (!out.port.empty()) return out;
  }
  return Error(ErrorCode::kInvalid, "'" + address + "' is neither unix:PATH nor tcp:HOST:PORT");
}

Result<Connection> connect_export(const Endpoint& endpoint, int timeout_seconds) {
  const Result<int> fd = endpoint.unix_path.empty() ? open_tcp(endpoint.host, endpoint.port)
                                                    : open_unix(endpoint.unix_path);
  if (!fd) return fd.error();
  const timeval limit{.tv_sec = timeout_seconds, .tv_usec = 0};
  ::setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  Connection out;
  out.fd = *fd;
  if (Status s = handshake(endpoint, &out); !s) {
    out.tls.reset();
    ::close(*fd);
    return s.error();
  }
  return out;
}

void encode_request(char* out, Command command, std::uint16_t flags, std::uint64_t cookie,
                    std::uint64_t offset, std::uint32_t length) {
  out = put(out, kRequestMagic);
  out = put(out, flags);
  out = put(out, static_cast<std::uint16_t>(command));
  out = put(out, cookie);
  out = put(out, offset);
  put(out, length);
}

bool decode_reply(const char* bytes, ReplyHeader* reply) {
  if (load_be<std::uint32_t>(bytes) != kReplyMagic) return false;
  reply->error = load_be<std::uint32_t>(bytes + 4);
  reply->cookie = load_be<std::uint64_t>(bytes + 8);
  return true;
}

}  // namespace blockmig::bench

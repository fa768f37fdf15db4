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

Status send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::send(fd, data, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error::from_errno(errno, "handshake: send");
    data += n;
    size -= static_cast<std::size_t>(n);
  }
  return {};
}

Status receive_all(int fd, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t n = ::recv(fd, data, size, 0);
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

Status send_go(int fd, const std::string& name) {
  std::vector<char> out(4 + 16 + 4 + name.size() + 2 + 2);
  char* at = put(out.data(), kClientFlags);
  at = put(at, kOptionMagic);
  at = put(at, kOptGo);
  at = put(at, static_cast<std::uint32_t>(4 + name.size() + 4));
  at = put(at, static_cast<std::uint32_t>(name.size()));
  at = std::copy(name.begin(), name.end(), at);
  at = put(at, std::uint16_t{1});
  put(at, kInfoBlockSize);
  return send_all(fd, out.data(), out.size());
}

Status read_go_replies(int fd, Connection* connection) {
  bool seen_export = false;
  for (;;) {
    char header[20];
    if (Status s = receive_all(fd, header, sizeof header); !s) return s;
    const auto type = load_be<std::uint32_t>(header + 12);
    const auto length = load_be<std::uint32_t>(header + 16);
    if (load_be<std::uint64_t>(header) != kOptionReplyMagic || length > kMaxOptionReply) {
      return Error(ErrorCode::kProtocol, "handshake: not an option reply");
    }
    std::vector<char> payload(length);
    if (Status s = receive_all(fd, payload.data(), length); !s) return s;
    if (type & kRepErrorBit) {
      return Error(ErrorCode::kNotFound, "the server refused the export: error " +
                                             std::to_string(type & ~kRepErrorBit) + " " +
                                             std::string(payload.begin(), payload.end()));
    }
    if (type == kRepInfo && length >= 12 && load_be<std::uint16_t>(payload.data()) == kInfoExport) {
      connection->size_bytes = load_be<std::uint64_t>(payload.data() + 2);
      connection->flags = load_be<std::uint16_t>(payload.data() + 10);
      seen_export = true;
    }
    if (type == kRepAck) {
      if (seen_export) return {};
      return Error(ErrorCode::kProtocol, "handshake: no export information");
    }
  }
}

Status handshake(int fd, const std::string& name, Connection* connection) {
  char greeting[18];
  if (Status s = receive_all(fd, greeting, sizeof greeting); !s) return s;
  if (load_be<std::uint64_t>(greeting) != kInitMagic ||
      load_be<std::uint64_t>(greeting + 8) != kOptionMagic ||
      (load_be<std::uint16_t>(greeting + 16) & kFixedNewstyle) == 0) {
    return Error(ErrorCode::kProtocol, "handshake: not a fixed newstyle server");
  }
  if (Status s = send_go(fd, name); !s) return s;
  return read_go_replies(fd, connection);
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
  if (Status s = handshake(*fd, endpoint.export_name, &out); !s) {
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

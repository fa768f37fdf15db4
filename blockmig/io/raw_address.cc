// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/raw_address.h"

#include <arpa/inet.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

namespace blockmig {
namespace {

constexpr std::size_t kMaxUnixPath = sizeof(sockaddr_un::sun_path) - 1;

Error resolve_error(int code, const std::string& host) {
  const std::string what = "resolve \"" + host + "\"";
  switch (code) {
    case EAI_SYSTEM:
      return Error::from_errno(errno, what);
    case EAI_MEMORY:
      return Error(ErrorCode::kNoMemory, what + ": out of memory");
    case EAI_AGAIN:
      return Error(ErrorCode::kDisconnected, what + ": " + ::gai_strerror(code));
    default:
      return Error(ErrorCode::kNotFound, what + ": " + ::gai_strerror(code));
  }
}

Result<std::vector<RawAddress>> look_up(const std::string& host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) return resolve_error(code, host);
  std::vector<RawAddress> addresses;
  for (const addrinfo* each = found; each != nullptr; each = each->ai_next) {
    RawAddress& raw = addresses.emplace_back();
    std::memcpy(&raw.storage, each->ai_addr, each->ai_addrlen);
    raw.length = each->ai_addrlen;
  }
  ::freeaddrinfo(found);
  return addresses;
}

SocketAddress from_unix(const RawAddress& raw) {
  const auto& address = reinterpret_cast<const sockaddr_un&>(raw.storage);
  SocketAddress result;
  // An unnamed socket's address ends before its path; a path need not end in a zero byte.
  constexpr std::size_t kPathOffset = offsetof(sockaddr_un, sun_path);
  const std::size_t room = raw.length > kPathOffset ? raw.length - kPathOffset : 0;
  if (room > 1 && address.sun_path[0] == '\0') {  // an abstract name: no file
    result.path = "@" + std::string(address.sun_path + 1, room - 1);
    return result;
  }
  result.path.assign(address.sun_path, ::strnlen(address.sun_path, room));
  return result;
}

template <typename Address>
SocketAddress from_internet(int family, const Address& bytes, in_port_t port) {
  char text[INET6_ADDRSTRLEN] = "";
  ::inet_ntop(family, &bytes, text, sizeof text);
  SocketAddress result;
  result.family = SocketAddress::Family::kTcp;
  result.host = text;
  result.port = ntohs(port);
  return result;
}

}  // namespace

Result<RawAddress> raw_unix_address(const std::string& path) {
  if (path.empty()) return Error(ErrorCode::kInvalid, "the path of a unix socket is empty");
  if (path.size() > kMaxUnixPath) {
    return Error(ErrorCode::kInvalid, "the path of a unix socket is at most " +
                                          std::to_string(kMaxUnixPath) + " bytes long, this has " +
                                          std::to_string(path.size()) + ": " + path);
  }
  if (path.find('\0') != std::string::npos) {
    return Error(ErrorCode::kInvalid, "the path of a unix socket holds a zero byte");
  }
  RawAddress raw;
  auto& address = reinterpret_cast<sockaddr_un&>(raw.storage);
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  raw.length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return raw;
}

RawAddress raw_vsock_address(std::uint32_t cid, std::uint32_t port) {
  RawAddress raw;
  auto& address = reinterpret_cast<sockaddr_vm&>(raw.storage);
  address.svm_family = AF_VSOCK;
  address.svm_cid = cid;
  address.svm_port = port == 0 ? VMADDR_PORT_ANY : port;
  raw.length = sizeof address;
  return raw;
}

Result<RawAddress> raw_numeric_address(const std::string& host, std::uint16_t port) {
  const auto found = look_up(host, port, AI_NUMERICHOST);
  if (!found) return Error(ErrorCode::kInvalid, "\"" + host + "\" is not a numeric address");
  return found->front();
}

Result<std::vector<RawAddress>> resolve_host(const std::string& host, std::uint16_t port) {
  return look_up(host, port, 0);
}

SocketAddress to_socket_address(const RawAddress& raw) {
  if (raw.family() == AF_INET) {
    const auto& address = reinterpret_cast<const sockaddr_in&>(raw.storage);
    return from_internet(AF_INET, address.sin_addr, address.sin_port);
  }
  if (raw.family() == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(raw.storage);
    if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {  // an IPv4 client of a dual-stack listener
      in_addr v4;
      std::memcpy(&v4, &address.sin6_addr.s6_addr[12], sizeof v4);
      return from_internet(AF_INET, v4, address.sin6_port);
    }
    return from_internet(AF_INET6, address.sin6_addr, address.sin6_port);
  }
  if (raw.family() == AF_VSOCK) {
    const auto& address = reinterpret_cast<const sockaddr_vm&>(raw.storage);
    SocketAddress result;
    result.family = SocketAddress::Family::kVsock;
    result.cid = address.svm_cid;
    result.vsock_port = address.svm_port;
    return result;
  }
  return from_unix(raw);
}

Result<RawAddress> local_address(int fd) {
  RawAddress raw;
  raw.length = sizeof raw.storage;
  if (::getsockname(fd, raw.get(), &raw.length) == 0) return raw;
  return Error::from_errno(errno, "getsockname");
}

Result<RawAddress> peer_address(int fd) {
  RawAddress raw;
  raw.length = sizeof raw.storage;
  if (::getpeername(fd, raw.get(), &raw.length) == 0) return raw;
  return Error::from_errno(errno, "getpeername");
}

}  // namespace blockmig

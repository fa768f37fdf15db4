// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/listening_socket.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "blockmig/io/raw_address.h"
#include "blockmig/io/socket_stream.h"

namespace blockmig {
namespace {

std::string listen_text(const SocketAddress& address) { return "listen on " + address.to_string(); }

Result<UniqueFd> open_socket(int family, const SocketAddress& address) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket) return socket;
  if (family == AF_VSOCK && errno == EAFNOSUPPORT) {
    return Error(ErrorCode::kNotSupported, listen_text(address) + ": this kernel has no vsock");
  }
  return Error::from_errno(errno, listen_text(address) + ": socket");
}

/// True if a process listens on the unix socket.
bool is_live(const RawAddress& raw) {
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  // Anything but a refusal, such as a full backlog or no permission, means that somebody may be
  // there.
  return ::connect(probe.get(), raw.get(), raw.length) == 0 || errno != ECONNREFUSED;
}

/// Makes way for bind(): removes a socket file that nobody listens on.
Status remove_stale(const RawAddress& raw, const SocketAddress& address) {
  const FileIdentity found = identify_file(address.path);
  if (found == FileIdentity{}) return {};
  if (!found.is_socket) {
    return Error(ErrorCode::kBusy, "listen on " + address.to_string() +
                                       ": a file that is not a socket is in the way");
  }
  if (is_live(raw)) {
    return Error(ErrorCode::kBusy,
                 "listen on " + address.to_string() + ": another process listens there");
  }
  // Only the file that was tried: another daemon may just have replaced it.
  if (identify_file(address.path) == found) (void)::unlink(address.path.c_str());
  return {};
}

Status bind_to(int fd, const RawAddress& raw, const SocketAddress& address) {
  if (::bind(fd, raw.get(), raw.length) == 0) return {};
  const bool no_such_cid = raw.family() == AF_VSOCK && errno == EADDRNOTAVAIL;
  if (!no_such_cid) return Error::from_errno(errno, listen_text(address));
  return Error(ErrorCode::kNotSupported,
               listen_text(address) + ": this machine has no vsock with that context id");
}

Status start_listening(int fd, const SocketAddress& address) {
  if (::listen(fd, SOMAXCONN) == 0) return {};
  return Error::from_errno(errno, listen_text(address));
}

Status prepare_unix(int fd, const SocketAddress& address, const UnixSocketOptions& options,
                    const FileIdentity& file) {
  // Until listen() is called every connection is refused, so nobody gets in by what the file was
  // before.
  const Status owned = set_socket_access(address, options, file);
  if (!owned) return owned;
  return start_listening(fd, address);
}

Result<UniqueFd> listen_unix(const SocketAddress& address, const UnixSocketOptions& options) {
  const auto raw = raw_unix_address(address.path);
  if (!raw) return raw.error();
  const Status removed = remove_stale(*raw, address);
  if (!removed) return removed.error();
  auto socket = open_socket(AF_UNIX, address);
  if (!socket) return socket;
  tune_socket(socket->get(), AF_UNIX);
  const Status bound = bind_to(socket->get(), *raw, address);
  if (!bound) return bound.error();
  const FileIdentity file = identify_file(address.path);
  const Status ready = prepare_unix(socket->get(), address, options, file);
  if (ready.ok()) return socket;
  if (identify_file(address.path) == file) (void)::unlink(address.path.c_str());
  return ready.error();
}

Result<UniqueFd> listen_vsock(const SocketAddress& address) {
  auto socket = open_socket(AF_VSOCK, address);
  if (!socket) return socket;
  const RawAddress raw = raw_vsock_address(address.cid, address.vsock_port);
  const Status bound = bind_to(socket->get(), raw, address);
  if (!bound) return bound.error();
  const Status started = start_listening(socket->get(), address);
  if (!started) return started.error();
  return socket;
}

Result<UniqueFd> listen_tcp(const RawAddress& raw, const SocketAddress& address, bool dual_stack) {
  auto socket = open_socket(raw.family(), address);
  if (!socket) return socket;
  const int yes = 1;
  (void)::setsockopt(socket->get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (raw.family() == AF_INET6) {
    const int only_v6 = dual_stack ? 0 : 1;
    (void)::setsockopt(socket->get(), IPPROTO_IPV6, IPV6_V6ONLY, &only_v6, sizeof only_v6);
  }
  tune_socket(socket->get(), raw.family());
  const Status bound = bind_to(socket->get(), raw, address);
  if (!bound) return bound.error();
  const Status started = start_listening(socket->get(), address);
  if (!started) return started.error();
  return socket;
}

/// Both families on one socket where the host has IPv6.
Result<UniqueFd> listen_on_any(const SocketAddress& address) {
  const auto v6 = raw_numeric_address("::", address.port);
  if (v6) {
    auto socket = listen_tcp(*v6, address, true);
    if (socket || socket.error().code() == ErrorCode::kBusy) return socket;
  }
  const auto v4 = raw_numeric_address("0.0.0.0", address.port);
  if (!v4) return v4.error();
  return listen_tcp(*v4, address, false);
}

}  // namespace

FileIdentity identify_file(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, S_ISSOCK(status.st_mode)};
}

/// The file is held by a descriptor: should somebody swap the path, neither link nor file of his is
/// changed.
Status set_socket_access(const SocketAddress& address, const UnixSocketOptions& options,
                         const FileIdentity& is) {
  if (!options.mode && !options.gid) return {};
  const UniqueFd file(::open(address.path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status {};
  if (!file || ::fstat(file.get(), &status) != 0) {
    return Error::from_errno(errno, listen_text(address));
  }
  const bool same = is == FileIdentity{status.st_dev, status.st_ino, true};
  if (!same || !S_ISSOCK(status.st_mode)) {
    return Error(ErrorCode::kBusy, listen_text(address) + ": the file was replaced meanwhile");
  }
  // fchmod() refuses such a descriptor; this name of it does not.
  const std::string by_descriptor = "/proc/self/fd/" + std::to_string(file.get());
  const mode_t kept = status.st_mode & options.mode.value_or(status.st_mode) & 0777;
  constexpr auto kSameUser = static_cast<uid_t>(-1);
  // A new group must not have what only the old one was given.
  if (options.mode && ::chmod(by_descriptor.c_str(), kept) != 0) {
    return Error::from_errno(errno, listen_text(address) + ": set its mode");
  }
  if (options.gid && ::fchownat(file.get(), "", kSameUser, *options.gid, AT_EMPTY_PATH) != 0) {
    return Error::from_errno(errno, listen_text(address) + ": set its group");
  }
  if (options.mode && ::chmod(by_descriptor.c_str(), *options.mode) != 0) {
    return Error::from_errno(errno, listen_text(address) + ": set its mode");
  }
  return {};
}

Result<UniqueFd> open_listening_socket(const SocketAddress& address,
                                       const UnixSocketOptions& options) {
  switch (address.family) {
    case SocketAddress::Family::kUnix:
      return listen_unix(address, options);
    case SocketAddress::Family::kVsock:
      return listen_vsock(address);
    case SocketAddress::Family::kTcp:
      break;
  }
  if (address.host.empty()) return listen_on_any(address);
  const auto addresses = resolve_host(address.host, address.port);
  if (!addresses) return addresses.error().with_context(listen_text(address));
  return listen_tcp(addresses->front(), address, false);
}

}  // namespace blockmig

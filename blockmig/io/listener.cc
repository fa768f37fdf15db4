// SPDX-License-Identifier: Apache-2.0
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <memory>
#include <utility>

#include "blockmig/io/event.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/raw_address.h"
#include "blockmig/io/socket_stream.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

/// How long accept() waits for descriptors to be closed before it looks again.
constexpr auto kNoDescriptorsPause = std::chrono::milliseconds(50);

/// Which file a path names, so that a file of somebody else at the same path is never removed.
struct FileIdentity {
  dev_t device = 0;
  ino_t inode = 0;
  bool is_socket = false;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

/// All zero if there is none.
FileIdentity identify(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return {};
  return {status.st_dev, status.st_ino, S_ISSOCK(status.st_mode)};
}

class SocketListener final : public Listener {
 public:
  SocketListener(IoLoop& loop, UniqueFd socket, SocketAddress address)
      : loop_(loop),
        socket_(std::move(socket)),
        watch_(loop.watch(socket_.get())),
        closed_(loop),
        address_(std::move(address)) {
    if (is_unix()) file_ = identify(address_.path);
  }
  ~SocketListener() override { close(); }

  Task<Result<std::unique_ptr<Stream>>> accept() override;
  void close() override;
  const SocketAddress& address() const override { return address_; }

 private:
  bool is_unix() const { return address_.family == SocketAddress::Family::kUnix; }
  std::unique_ptr<Stream> make_stream(UniqueFd connection, const RawAddress& peer);

  IoLoop& loop_;
  UniqueFd socket_;
  std::unique_ptr<FdWatch> watch_;
  Event closed_;
  SocketAddress address_;
  FileIdentity file_;
};

bool lacks_descriptors(int os_errno) {
  return os_errno == EMFILE || os_errno == ENFILE || os_errno == ENOBUFS || os_errno == ENOMEM;
}

/// The errors of the listener itself; every other one is of the connection that was to be accepted
/// (accept(2): "treat them like EAGAIN").
bool is_fatal(int os_errno) {
  return os_errno == EBADF || os_errno == EINVAL || os_errno == ENOTSOCK ||
         os_errno == EOPNOTSUPP || os_errno == EFAULT;
}

Task<Result<std::unique_ptr<Stream>>> SocketListener::accept() {
  while (!closed_.is_set()) {
    RawAddress peer;
    peer.length = sizeof peer.storage;
    UniqueFd connection(
        ::accept4(socket_.get(), peer.get(), &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    const int failure = errno;
    if (connection) co_return make_stream(std::move(connection), peer);
    if (failure == EAGAIN) {
      const bool watched = co_await watch_->readable();
      if (!watched) break;
    } else if (lacks_descriptors(failure)) {
      // The connection stays queued, but no edge will report it again.
      const TimePoint next_look = loop_.now() + kNoDescriptorsPause;
      co_await closed_.wait_until(next_look);
    } else if (is_fatal(failure)) {
      co_return Error::from_errno(failure, "accept on " + address_.to_string());
    }
  }
  co_return Error(ErrorCode::kCancelled, "listener " + address_.to_string() + " was closed");
}

std::unique_ptr<Stream> SocketListener::make_stream(UniqueFd connection, const RawAddress& peer) {
  tune_socket(connection.get(), peer.family());
  // A unix client has no name of its own.
  std::string name = is_unix() ? address_.to_string() : to_socket_address(peer).to_string();
  return std::make_unique<SocketStream>(loop_, std::move(connection), std::move(name));
}

void SocketListener::close() {
  if (closed_.is_set()) return;
  if (is_unix() && identify(address_.path) == file_) (void)::unlink(address_.path.c_str());
  // Frees the port and refuses clients although accept() may still hold the descriptor for a
  // moment.
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  closed_.set();
  watch_->cancel();
}

Result<UniqueFd> open_socket(int family, const SocketAddress& address) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return Error::from_errno(errno, "listen on " + address.to_string() + ": socket");
  return socket;
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
  const FileIdentity found = identify(address.path);
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
  if (identify(address.path) == found) (void)::unlink(address.path.c_str());
  return {};
}

Status start_listening(int fd, const RawAddress& raw, const SocketAddress& address) {
  const std::string what = "listen on " + address.to_string();
  if (::bind(fd, raw.get(), raw.length) != 0) return Error::from_errno(errno, what);
  if (::listen(fd, SOMAXCONN) != 0) return Error::from_errno(errno, what);
  return {};
}

Result<UniqueFd> listen_unix(const SocketAddress& address) {
  const auto raw = raw_unix_address(address.path);
  if (!raw) return raw.error();
  const Status removed = remove_stale(*raw, address);
  if (!removed) return removed.error();
  auto socket = open_socket(AF_UNIX, address);
  if (!socket) return socket;
  tune_socket(socket->get(), AF_UNIX);
  const Status started = start_listening(socket->get(), *raw, address);
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
  const Status started = start_listening(socket->get(), raw, address);
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

Result<UniqueFd> open_listening_socket(const SocketAddress& address) {
  if (address.family == SocketAddress::Family::kUnix) return listen_unix(address);
  if (address.host.empty()) return listen_on_any(address);
  const auto addresses = resolve_host(address.host, address.port);
  if (!addresses) return addresses.error().with_context("listen on " + address.to_string());
  return listen_tcp(addresses->front(), address, false);
}

}  // namespace

Result<std::unique_ptr<Listener>> listen_on(IoLoop& loop, const SocketAddress& address) {
  auto socket = open_listening_socket(address);
  if (!socket) return socket.error();
  SocketAddress actual = address;
  if (address.family == SocketAddress::Family::kTcp) {
    const auto bound = local_address(socket->get());
    if (!bound) return bound.error();
    actual.port = to_socket_address(*bound).port;
  }
  return std::unique_ptr<Listener>(
      std::make_unique<SocketListener>(loop, std::move(*socket), std::move(actual)));
}

}  // namespace blockmig

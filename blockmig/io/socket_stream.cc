// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/socket_stream.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string_view>
#include <utility>
#include <vector>

#include "blockmig/io/gather.h"
#include "blockmig/io/hang_up.h"
#include "blockmig/io/raw_address.h"

namespace blockmig {
namespace {

constexpr int kSocketBufferBytes = 512 * 1024;
/// Until somebody says otherwise.
constexpr std::chrono::seconds kKeepaliveTime(30);
constexpr int kKeepaliveProbes = 3;
/// Parts per system call; the kernel takes 1024 (IOV_MAX), but fewer fill a socket buffer.
constexpr std::size_t kPartsPerCall = 128;

void set_option(int fd, int level, int option, int value) {
  (void)::setsockopt(fd, level, option, &value, sizeof value);
}

void keep_alive(int fd, std::chrono::seconds silence) {
  const int idle = static_cast<int>(silence.count());
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, idle);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, std::max(1, idle / kKeepaliveProbes));
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
}

bool is_loopback(const RawAddress& peer) {
  constexpr std::uint32_t kLoopbackNet = 127;
  sockaddr_in v4{};
  sockaddr_in6 v6{};
  std::memcpy(&v4, peer.get(), sizeof v4);
  std::memcpy(&v6, peer.get(), sizeof v6);
  if (peer.family() == AF_INET) return ntohl(v4.sin_addr.s_addr) >> 24 == kLoopbackNet;
  return peer.family() == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

/// How many bytes the kernel took of the rest of `gather`, or a negative errno.
ssize_t send_parts(int fd, const Gather& gather) {
  std::array<iovec, kPartsPerCall> parts;
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = gather.fill(parts);
  const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
  return sent < 0 ? -errno : sent;
}

/// How many bytes came, 0 at the end, or a negative errno.
ssize_t receive(int fd, MutableBytes into) {
  for (;;) {
    const ssize_t got = ::recv(fd, into.data(), into.size(), 0);
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

/// EWOULDBLOCK is the same number on Linux.
bool would_block(ssize_t result) { return result == -EAGAIN; }

Error connection_error(ssize_t result, const char* operation, const std::string& peer) {
  return Error::from_errno(static_cast<int>(-result), std::string(operation) + " " + peer);
}

Error shut_down_error(const std::string& peer) {
  return Error(ErrorCode::kDisconnected, "connection to " + peer + " was shut down");
}

Error handed_over_error(const std::string& peer) {
  return Error(ErrorCode::kCancelled, "connection to " + peer + " is being handed over");
}

std::optional<PeerCredentials> credentials_of(int fd) {
  ucred kernel{};
  socklen_t length = sizeof kernel;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &kernel, &length) != 0) return std::nullopt;
  PeerCredentials credentials;
  credentials.uid = kernel.uid;
  credentials.pid = kernel.pid;
  credentials.gids.push_back(kernel.gid);
  // The call says how many there are when the room is too small.
  length = 0;
  (void)::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, nullptr, &length);
  std::vector<gid_t> groups(length / sizeof(gid_t));
  if (!groups.empty() && ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) == 0) {
    credentials.gids.insert(credentials.gids.end(), groups.begin(), groups.end());
  }
  return credentials;
}

/// The part of the name that does not change from one connection of a host to its next.
std::string origin_of(const std::string& peer_name) {
  const auto address = SocketAddress::parse(peer_name);
  if (!address) return "";
  if (address->family == SocketAddress::Family::kVsock) {
    return "vsock:" + std::to_string(address->cid);
  }
  return "tcp:" + address->host;
}

}  // namespace

SocketStream::SocketStream(IoLoop& loop, UniqueFd socket, std::string peer_name)
    : socket_(std::move(socket)),
      watch_(loop.watch(socket_.get())),
      peer_name_(std::move(peer_name)) {}

SocketStream::~SocketStream() {
  // The loop may keep the file open for another turn (io_loop.h): the peer must not wait for that.
  if (!shut_ && socket_) (void)::shutdown(socket_.get(), SHUT_RDWR);
  watch_.reset();
}

Task<Result<std::size_t>> SocketStream::read_some(MutableBytes into) {
  while (!shut_ && !into.empty()) {
    if (reading_ended_) co_return handed_over_error(peer_name_);
    const ssize_t got = receive(socket_.get(), into);
    if (got >= 0) co_return static_cast<std::size_t>(got);
    if (!would_block(got)) co_return connection_error(got, "receive from", peer_name_);
    const bool watched = co_await watch_->readable();
    if (!watched) break;
  }
  if (shut_ || into.empty()) co_return std::size_t{0};
  co_return Error(ErrorCode::kIo, "receive from " + peer_name_ + ": the socket cannot be watched");
}

Result<std::size_t> SocketStream::try_read(MutableBytes into, bool* ended) {
  if (shut_) *ended = true;
  if (shut_ || into.empty()) return std::size_t{0};
  if (reading_ended_) return handed_over_error(peer_name_);
  const ssize_t got = receive(socket_.get(), into);
  if (got > 0) return static_cast<std::size_t>(got);
  if (got == 0) *ended = true;
  if (got == 0 || would_block(got)) return std::size_t{0};
  return connection_error(got, "receive from", peer_name_);
}

Task<Status> SocketStream::write_all(std::span<const ConstBytes> parts) {
  Gather gather(parts);
  while (!gather.finished()) {
    if (shut_) co_return shut_down_error(peer_name_);
    const ssize_t sent = send_parts(socket_.get(), gather);
    if (sent >= 0) {
      gather.advance(static_cast<std::size_t>(sent));
      continue;
    }
    if (sent == -EINTR) continue;
    if (!would_block(sent)) co_return connection_error(sent, "send to", peer_name_);
    const bool watched = co_await watch_->writable();
    if (!watched) co_return shut_down_error(peer_name_);
  }
  co_return Status();
}

std::size_t SocketStream::try_write(std::span<const ConstBytes> parts) {
  Gather gather(parts);
  std::size_t total = 0;
  while (!shut_ && !gather.finished()) {
    // An error shows again in the write_all() that follows; EFAULT means that a part is not to be
    // had, which is for whoever lent it to say.
    const ssize_t sent = send_parts(socket_.get(), gather);
    if (sent <= 0) break;
    gather.advance(static_cast<std::size_t>(sent));
    total += static_cast<std::size_t>(sent);
  }
  return total;
}

std::size_t SocketStream::available() {
  int bytes = 0;
  if (shut_ || ::ioctl(socket_.get(), FIONREAD, &bytes) != 0 || bytes < 0) return 0;
  return static_cast<std::size_t>(bytes);
}

bool SocketStream::begin_wait(std::coroutine_handle<> waiter) {
  // One edge per arrival; one that came since the last read is kept.
  FdWatch::Awaiter edge = watch_->readable();
  if (edge.await_ready()) return false;
  edge.await_suspend(waiter);
  return true;
}

Status SocketStream::end_wait() {
  const bool watched = watch_->readable().await_resume();
  if (shut_) return shut_down_error(peer_name_);
  if (reading_ended_) return handed_over_error(peer_name_);
  if (!watched) return Error(ErrorCode::kIo, peer_name_ + ": the socket cannot be watched");
  return {};
}

bool SocketStream::peer_has_ended() const { return shut_ || has_hung_up(socket_.get()); }

bool SocketStream::peer_is_gone() const { return shut_ || is_gone(socket_.get()); }

void SocketStream::set_keepalive(Duration silence) {
  if (!peer_name_.starts_with("tcp:")) return;
  keep_alive(socket_.get(), std::chrono::ceil<std::chrono::seconds>(silence));
}

void SocketStream::shutdown() {
  if (std::exchange(shut_, true)) return;
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  if (watch_ != nullptr) watch_->cancel();
}

StreamPeer SocketStream::peer() const {
  StreamPeer peer;
  if (peer_name_.starts_with("unix:")) {
    peer.credentials = credentials_of(socket_.get());
    if (peer.credentials) peer.origin = "uid:" + std::to_string(peer.credentials->uid);
  } else {
    peer.origin = origin_of(peer_name_);
  }
  return peer;
}

bool SocketStream::detach() {
  watch_.reset();
  return true;
}

void SocketStream::attach(IoLoop& loop) {
  watch_ = loop.watch(socket_.get());
  if (shut_) watch_->cancel();
}

void SocketStream::end_reading() {
  reading_ended_ = true;
  if (watch_ != nullptr) watch_->nudge_reader();
}

int SocketStream::release() {
  watch_.reset();
  return socket_.release();
}

void tune_socket(int fd, int family) {
  if (family == AF_UNIX) {
    // FORCE passes the system's limit where we may; a large request then takes fewer turns.
    set_option(fd, SOL_SOCKET, SO_SNDBUF, kSocketBufferBytes);
    set_option(fd, SOL_SOCKET, SO_RCVBUF, kSocketBufferBytes);
    set_option(fd, SOL_SOCKET, SO_SNDBUFFORCE, kSocketBufferBytes);
    set_option(fd, SOL_SOCKET, SO_RCVBUFFORCE, kSocketBufferBytes);
    return;
  }
  // TCP buffers are left to the kernel: fixed ones would switch off its tuning, and on hosts with
  // the usual limit of 208 KiB would be smaller than what it arrives at.
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  keep_alive(fd, kKeepaliveTime);
}

void tune_connection(int fd, const RawAddress& peer) {
  tune_socket(fd, peer.family());
  if (!is_loopback(peer)) return;
  // Where the system's choice paces what is sent (bbr), a path without a queue to measure goes at a
  // fraction of its rate. Every kernel has reno, and lets everybody choose it.
  constexpr std::string_view kUnpaced = "reno";
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, kUnpaced.data(), kUnpaced.size());
}

Status prepare_adopted(int fd) {
  const std::string what = "descriptor " + std::to_string(fd);
  int type = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) {
    return Error::from_errno(errno, what + " is not a socket");
  }
  if (type != SOCK_STREAM) return Error(ErrorCode::kInvalid, what + " is not a stream socket");
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 ||
      ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return Error::from_errno(errno, what + ": fcntl");
  }
  return {};
}

Result<std::unique_ptr<Stream>> adopt_socket(IoLoop& loop, int fd) {
  UniqueFd socket(fd);
  const Status prepared = prepare_adopted(fd);
  if (!prepared) return prepared.error();
  const auto peer = peer_address(fd);
  if (!peer) return peer.error().with_context("descriptor " + std::to_string(fd));
  tune_connection(fd, *peer);
  SocketAddress name = to_socket_address(*peer);
  const bool unnamed = name.family == SocketAddress::Family::kUnix && name.path.empty();
  const auto own = local_address(fd);
  if (unnamed && own.ok()) name = to_socket_address(*own);  // as where it was accepted
  return std::unique_ptr<Stream>(
      std::make_unique<SocketStream>(loop, std::move(socket), name.to_string()));
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// null_server: an NBD server that does nothing but answer: the limit of what sockets and nbdload
// can do, and so the yardstick of whether nbdload is the bottleneck. Reads return a constant,
// writes are dropped. One thread per connection; whatever one receive brings is answered by one
// send. See `null_server --help`.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "blockmig/base/endian.h"
#include "tests/bench/argument_table.h"
#include "tests/bench/latency.h"
#include "tests/bench/nbd_connection.h"

namespace blockmig::bench {
namespace {

constexpr const char kUsage[] =
    "usage: null_server --listen unix:PATH|tcp:ADDRESS:PORT [--size BYTES] [--spin US]\n"
    "  --size BYTES   of the export (default 1G)\n"
    "  --spin US      poll so long before sleeping (default 50)\n";
constexpr std::uint64_t kInitMagic = 0x4e42444d41474943;
constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;
constexpr std::uint64_t kOptionReplyMagic = 0x3e889045565a9;
constexpr std::uint32_t kRequestMagic = 0x25609513;
constexpr std::uint32_t kReplyMagic = 0x67446698;
constexpr std::uint16_t kHandshakeFlags = 3;                          // FIXED_NEWSTYLE, NO_ZEROES
constexpr std::uint16_t kExportFlags = 1 | 1 << 2 | 1 << 3 | 1 << 8;  // flush, FUA, multi-conn
constexpr std::uint32_t kOptAbort = 2;
constexpr std::uint32_t kOptInfo = 6;
constexpr std::uint32_t kOptGo = 7;
constexpr std::uint32_t kRepAck = 1;
constexpr std::uint32_t kRepInfo = 3;
constexpr std::uint32_t kRepErrUnsup = (1u << 31) + 1;
constexpr std::uint32_t kMaxOption = 64 * 1024;
constexpr std::uint32_t kMaxData = 32u << 20;
constexpr std::size_t kReceiveBytes = 512 * 1024;
constexpr std::size_t kMaxParts = 1024;  // IOV_MAX
constexpr int kSocketBufferBytes = 512 * 1024;

struct Settings {
  std::uint64_t size_bytes = 1ull << 30;
  std::uint64_t spin_ns = 50'000;
};

bool receive_all(int fd, void* to, std::size_t size) {
  return size == 0 || ::recv(fd, to, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

bool send_all(int fd, const void* from, std::size_t size) {
  const auto* at = static_cast<const char*>(from);
  while (size > 0) {
    const ssize_t n = ::send(fd, at, size, MSG_NOSIGNAL);
    if (n <= 0) return false;
    at += n;
    size -= static_cast<std::size_t>(n);
  }
  return true;
}

bool send_option_reply(int fd, std::uint32_t option, std::uint32_t type, const char* payload,
                       std::uint32_t size) {
  std::array<char, 64> out;
  store_be(out.data(), kOptionReplyMagic);
  store_be(out.data() + 8, option);
  store_be(out.data() + 12, type);
  store_be(out.data() + 16, size);
  std::copy_n(payload, size, out.data() + 20);
  return send_all(fd, out.data(), 20 + size);
}

/// True when the transmission phase begins.
bool negotiate(int fd, const Settings& settings) {
  char bytes[18];
  store_be(bytes, kInitMagic);
  store_be(bytes + 8, kOptionMagic);
  store_be(bytes + 16, kHandshakeFlags);
  if (!send_all(fd, bytes, 18) || !receive_all(fd, bytes, 4)) return false;
  std::vector<char> payload;
  for (;;) {
    if (!receive_all(fd, bytes, 16) || load_be<std::uint64_t>(bytes) != kOptionMagic) return false;
    const auto option = load_be<std::uint32_t>(bytes + 8);
    const auto length = load_be<std::uint32_t>(bytes + 12);
    if (length > kMaxOption) return false;
    payload.resize(length);
    if (!receive_all(fd, payload.data(), length)) return false;
    if (option == kOptAbort) {
      send_option_reply(fd, option, kRepAck, nullptr, 0);
      return false;
    }
    if (option != kOptInfo && option != kOptGo) {
      if (!send_option_reply(fd, option, kRepErrUnsup, nullptr, 0)) return false;
      continue;
    }
    char info[12];
    store_be(info, std::uint16_t{0});
    store_be(info + 2, settings.size_bytes);
    store_be(info + 10, kExportFlags);
    if (!send_option_reply(fd, option, kRepInfo, info, sizeof info) ||
        !send_option_reply(fd, option, kRepAck, nullptr, 0)) {
      return false;
    }
    if (option == kOptGo) return true;
  }
}

/// What every read returns.
const char* constant_data() {
  static const std::vector<char> data(kMaxData, '\x5a');
  return data.data();
}

/// One connection in the transmission phase.
class Transmission {
 public:
  Transmission(int fd, const Settings& settings)
      : fd_(fd), settings_(settings), buffer_(kReceiveBytes), headers_(kReceiveBytes) {}

  void run() {
    while (receive() && parse() && send_replies()) {
    }
  }

 private:
  bool receive() {
    const std::uint64_t spin_end = now_ns() + settings_.spin_ns;
    ssize_t n = 0;
    do {
      n = ::recv(fd_, buffer_.data() + kept_, buffer_.size() - kept_, MSG_DONTWAIT);
    } while (n < 0 && errno == EAGAIN && now_ns() < spin_end);
    if (n < 0 && errno == EAGAIN) {
      n = ::recv(fd_, buffer_.data() + kept_, buffer_.size() - kept_, 0);
    }
    end_ = kept_ + static_cast<std::size_t>(std::max<ssize_t>(n, 0));
    return n > 0;
  }

  /// Takes every complete request; false at a disconnect or nonsense.
  bool parse() {
    std::size_t at = std::min(skip_, end_);
    skip_ -= at;
    headers_used_ = 0;
    parts_.clear();
    while (end_ - at >= kRequestBytes) {
      const char* request = buffer_.data() + at;
      const auto command = static_cast<Command>(load_be<std::uint16_t>(request + 6));
      const auto length = load_be<std::uint32_t>(request + 24);
      if (load_be<std::uint32_t>(request) != kRequestMagic || length > kMaxData) return false;
      if (command == Command::kDisconnect) return false;
      at += kRequestBytes;
      reply(request + 8, command == Command::kRead ? length : 0);
      if (command == Command::kWrite) {
        const std::size_t here = std::min<std::size_t>(length, end_ - at);
        at += here;
        skip_ = length - here;
      }
    }
    kept_ = end_ - at;
    std::memmove(buffer_.data(), buffer_.data() + at, kept_);
    return true;
  }

  void reply(const char* cookie, std::size_t data_bytes) {
    char* header = headers_.data() + headers_used_;
    headers_used_ += kReplyBytes;
    store_be(header, kReplyMagic);
    store_be(header + 4, std::uint32_t{0});
    std::copy_n(cookie, 8, header + 8);
    parts_.push_back({header, kReplyBytes});
    if (data_bytes > 0) parts_.push_back({const_cast<char*>(constant_data()), data_bytes});
  }

  bool send_replies() {
    std::size_t next = 0;
    while (next < parts_.size()) {
      msghdr message{};
      message.msg_iov = parts_.data() + next;
      message.msg_iovlen = std::min(parts_.size() - next, kMaxParts);
      const ssize_t n = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
      if (n <= 0) return false;
      auto sent = static_cast<std::size_t>(n);
      while (next < parts_.size() && sent >= parts_[next].iov_len) sent -= parts_[next++].iov_len;
      if (sent > 0) {
        parts_[next].iov_base = static_cast<char*>(parts_[next].iov_base) + sent;
        parts_[next].iov_len -= sent;
      }
    }
    return true;
  }

  int fd_;
  const Settings& settings_;
  std::vector<char> buffer_;
  std::size_t end_ = 0;
  std::size_t kept_ = 0;  ///< bytes of an incomplete request at the buffer's start
  std::size_t skip_ = 0;  ///< bytes of a write's payload still to come
  std::vector<char> headers_;
  std::size_t headers_used_ = 0;
  std::vector<iovec> parts_;
};

void serve(int fd, const Settings& settings) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  for (const int which : {SO_SNDBUF, SO_RCVBUF}) {
    ::setsockopt(fd, SOL_SOCKET, which, &kSocketBufferBytes, sizeof kSocketBufferBytes);
  }
  if (negotiate(fd, settings)) Transmission(fd, settings).run();
  ::close(fd);
}

Result<int> listen_on(const Endpoint& at) {
  sockaddr_un local{};
  sockaddr_in remote{};
  auto* address = reinterpret_cast<sockaddr*>(&remote);
  socklen_t size = sizeof remote;
  if (!at.unix_path.empty()) {
    if (at.unix_path.size() >= sizeof local.sun_path) {
      return Error(ErrorCode::kInvalid, "socket path too long");
    }
    local.sun_family = AF_UNIX;
    at.unix_path.copy(local.sun_path, at.unix_path.size());
    address = reinterpret_cast<sockaddr*>(&local);
    size = sizeof local;
  } else {
    remote.sin_family = AF_INET;
    remote.sin_port = htons(static_cast<std::uint16_t>(std::atoi(at.port.c_str())));
    if (::inet_pton(AF_INET, at.host.c_str(), &remote.sin_addr) != 1) {
      return Error(ErrorCode::kInvalid, "'" + at.host + "' is no IPv4 address");
    }
  }
  const int fd = ::socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (fd < 0 || ::bind(fd, address, size) != 0 || ::listen(fd, SOMAXCONN) != 0) {
    return Error::from_errno(errno, "listen");
  }
  return fd;
}

Status run(int argc, char** argv) {
  std::string where;
  double size = 1ull << 30;
  double spin_us = 50;
  ArgumentTable table;
  table.text("--listen", &where);
  table.number("--size", &size);
  table.number("--spin", &spin_us);
  if (Status s = table.parse(argc, argv, kUsage); !s) return s;
  const Settings settings{.size_bytes = static_cast<std::uint64_t>(size),
                          .spin_ns = static_cast<std::uint64_t>(spin_us * 1e3)};
  const Result<Endpoint> endpoint = parse_endpoint(where, "");
  if (!endpoint) return endpoint.error();
  const Result<int> listener = listen_on(*endpoint);
  if (!listener) return listener.error();
  for (;;) {
    const int fd = ::accept4(*listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) std::thread(serve, fd, std::cref(settings)).detach();
  }
}

}  // namespace
}  // namespace blockmig::bench

int main(int argc, char** argv) {
  const blockmig::Status s = blockmig::bench::run(argc, argv);
  std::fprintf(stderr, "null_server: %s\n", s.error().message().c_str());
  return 2;
}

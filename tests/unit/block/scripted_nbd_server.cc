// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/block/scripted_nbd_server.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/endian.h"

namespace blockmig {
namespace {

constexpr std::uint32_t kOptGo = 7;
constexpr std::uint32_t kOptStructuredReply = 8;
constexpr std::uint32_t kOptListMetaContext = 9;
constexpr std::uint32_t kOptSetMetaContext = 10;
constexpr std::uint32_t kAck = 1;
constexpr std::uint32_t kInfo = 3;
constexpr std::uint32_t kMetaContext = 4;
constexpr std::uint32_t kUnsupported = 0x80000001;

Bytes text(const std::string& characters) {
  const auto* data = reinterpret_cast<const std::byte*>(characters.data());
  return Bytes(data, data + characters.size());
}

bool receive(int fd, void* into, std::size_t size) {
  return size == 0 || ::recv(fd, into, size, MSG_WAITALL) == static_cast<ssize_t>(size);
}

void send_all(int fd, const Bytes& bytes) {
  (void)::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

Bytes option_reply(std::uint32_t option, std::uint32_t type, const Bytes& payload) {
  return joined({big_endian(0x3e889045565a9, 8), big_endian(option, 4), big_endian(type, 4),
                 big_endian(payload.size(), 4), payload});
}

}  // namespace

Bytes big_endian(std::uint64_t value, int bytes) {
  Bytes result;
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8) {
    result.push_back(static_cast<std::byte>(value >> shift));
  }
  return result;
}

Bytes joined(std::vector<Bytes> parts) {
  Bytes result;
  for (const Bytes& part : parts) result.insert(result.end(), part.begin(), part.end());
  return result;
}

Bytes reply_chunk(const NbdRequest& request, std::uint16_t flags, std::uint16_t type,
                  const Bytes& payload) {
  return joined({big_endian(0x668e33ef, 4), big_endian(flags, 2), big_endian(type, 2),
                 big_endian(request.cookie, 8), big_endian(payload.size(), 4), payload});
}

ScriptedNbdServer::ScriptedNbdServer(const TemporaryFolder& folder, Answer answer,
                                     NbdListing listing)
    : path_(folder / "scripted.sock"), answer_(std::move(answer)), listing_(std::move(listing)) {
  listener_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  BM_CHECK(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  BM_CHECK(::listen(listener_, 1) == 0);
  thread_ = std::thread([this] {
    const int connections = listing_.end == NbdListing::End::kHangUp ? 2 : 1;
    for (int i = 0; i < connections; ++i) {
      const int fd = ::accept(listener_, nullptr, nullptr);
      if (fd < 0) return;
      serve(fd);
      ::close(fd);
    }
  });
}

ScriptedNbdServer::~ScriptedNbdServer() {
  ::shutdown(listener_, SHUT_RDWR);
  thread_.join();
  ::close(listener_);
}

bool ScriptedNbdServer::shake_hands(int fd) const {
  send_all(fd, joined({text("NBDMAGICIHAVEOPT"), big_endian(3, 2)}));
  std::uint32_t client_flags = 0;
  if (!receive(fd, &client_flags, sizeof client_flags)) return false;
  for (;;) {
    std::byte header[16];
    if (!receive(fd, header, sizeof header)) return false;
    const auto option = load_be<std::uint32_t>(header + 8);
    Bytes payload(load_be<std::uint32_t>(header + 12));
    if (!receive(fd, payload.data(), payload.size())) return false;
    if (option == kOptListMetaContext) {
      list(fd);
      if (listing_.end == NbdListing::End::kHangUp) return false;
      continue;
    }
    if (option == kOptSetMetaContext) {
      send_all(fd, option_reply(option, kMetaContext,
                                joined({big_endian(1, 4), text("base:allocation")})));
    } else if (option == kOptGo) {
      // NBD_INFO_EXPORT: size and flags (HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES).
      send_all(fd, option_reply(
                       option, kInfo,
                       joined({big_endian(0, 2), big_endian(1 << 20, 8), big_endian(0x6d, 2)})));
    } else if (option != kOptStructuredReply) {
      send_all(fd, option_reply(option, kUnsupported, {}));
      continue;
    }
    send_all(fd, option_reply(option, kAck, {}));
    if (option == kOptGo) return true;
  }
}

void ScriptedNbdServer::list(int fd) const {
  for (const std::string& name : listing_.names) {
    send_all(fd, option_reply(kOptListMetaContext, kMetaContext,
                              joined({big_endian(0, 4), text(name)})));
  }
  const bool acknowledged = listing_.end == NbdListing::End::kAck;
  if (acknowledged || listing_.end == NbdListing::End::kError) {
    send_all(fd, option_reply(kOptListMetaContext, acknowledged ? kAck : kUnsupported, {}));
  }
}

void ScriptedNbdServer::serve(int fd) const {
  if (!shake_hands(fd)) return;
  for (;;) {
    std::byte header[28];
    if (!receive(fd, header, sizeof header)) return;
    NbdRequest request;
    request.type = load_be<std::uint16_t>(header + 6);
    request.cookie = load_be<std::uint64_t>(header + 8);
    request.offset = load_be<std::uint64_t>(header + 16);
    request.length = load_be<std::uint32_t>(header + 24);
    if (request.type == 2) return;  // DISC
    const Bytes answer = answer_(request);
    if (answer.empty()) return;
    send_all(fd, answer);
  }
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The message of a handover: kind, length of the text, number of descriptors; the text; then the
// descriptors, some with each further byte.
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "tools/daemon/handover.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kMagic = 0x424d48414e444f56;  // "BMHANDOV"
constexpr std::uint64_t kMaxTextBytes = 1ull << 30;
constexpr std::uint32_t kMaxDescriptors = 1u << 20;
/// The kernel takes 253 (SCM_MAX_FD).
constexpr std::size_t kDescriptorsPerMessage = 200;

enum class Kind : std::uint32_t { kHandover = 1, kRefusal = 2, kOk = 3 };

struct Head {
  std::uint64_t magic = kMagic;
  std::uint64_t text_bytes = 0;
  Kind kind = Kind::kHandover;
  std::uint32_t descriptors = 0;
};

void set_patience(int socket) {
  timeval patience{};
  patience.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(kHandoverPatience).count();
  (void)::setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  (void)::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

Status send_bytes(int socket, const void* data, std::size_t size) {
  const char* at = static_cast<const char*>(data);
  while (size != 0) {
    const ssize_t sent = ::send(socket, at, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return Error::from_errno(errno, "handing over");
    at += sent;
    size -= static_cast<std::size_t>(sent);
  }
  return {};
}

Status receive_bytes(int socket, void* data, std::size_t size) {
  char* at = static_cast<char*>(data);
  while (size != 0) {
    const ssize_t got = ::recv(socket, at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) return Error(ErrorCode::kDisconnected, "the other daemon is gone");
    if (got < 0) return Error::from_errno(errno, "taking over");
    at += got;
    size -= static_cast<std::size_t>(got);
  }
  return {};
}

union ControlBuffer {
  cmsghdr align;
  std::array<char, CMSG_SPACE(sizeof(int) * kDescriptorsPerMessage)> bytes;
};

Status send_descriptors(int socket, const std::vector<int>& sockets) {
  for (std::size_t at = 0; at < sockets.size();) {
    const std::size_t count = std::min(kDescriptorsPerMessage, sockets.size() - at);
    ControlBuffer control{};
    char byte = 'D';
    iovec part{&byte, 1};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    for (std::size_t i = 0; i < count; ++i) {
      const int fd = sockets[at + i];
      std::memcpy(CMSG_DATA(rights) + i * sizeof fd, &fd, sizeof fd);
    }
    const ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent != 1) return Error::from_errno(errno, "handing descriptors over");
    at += count;
  }
  return {};
}

/// What one message brought.
Status receive_some_descriptors(int socket, std::vector<UniqueFd>& into) {
  ControlBuffer control{};
  char byte = 0;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return Error::from_errno(errno, "taking descriptors over");
  const std::size_t before = into.size();
  for (cmsghdr* each = CMSG_FIRSTHDR(&message); each != nullptr;
       each = CMSG_NXTHDR(&message, each)) {
    if (each->cmsg_level != SOL_SOCKET || each->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (each->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(each) + i * sizeof fd, sizeof fd);
      into.emplace_back(fd);
    }
  }
  if (got == 1 && into.size() > before && (message.msg_flags & MSG_CTRUNC) == 0) return {};
  return Error(ErrorCode::kDisconnected,
               "descriptors got lost on their way (is the limit of open files too low?)");
}

Status send_message(int socket, Kind kind, const std::string& text) {
  Head head;
  head.kind = kind;
  head.text_bytes = text.size();
  const Status sent = send_bytes(socket, &head, sizeof head);
  if (!sent.ok()) return sent;
  return send_bytes(socket, text.data(), text.size());
}

struct Message {
  Head head;
  std::string text;
};

Result<Message> receive_message(int socket) {
  set_patience(socket);
  Message message;
  const Status got = receive_bytes(socket, &message.head, sizeof message.head);
  if (!got.ok()) return got.error();
  if (message.head.magic != kMagic || message.head.text_bytes > kMaxTextBytes ||
      message.head.descriptors > kMaxDescriptors) {
    return Error(ErrorCode::kProtocol, "what the other daemon sent is no handover");
  }
  message.text.resize(message.head.text_bytes);
  const Status text = receive_bytes(socket, message.text.data(), message.text.size());
  if (!text.ok()) return text.error();
  return message;
}

}  // namespace

Status send_handover(int connection, const Handover& handover) {
  set_patience(connection);
  const std::string text = to_json(handover.state);
  Head head;
  head.text_bytes = text.size();
  std::vector<int> descriptors;
  for (const UniqueFd& each : handover.sockets) descriptors.push_back(each.get());
  descriptors.push_back(handover.lock.get());
  head.descriptors = static_cast<std::uint32_t>(descriptors.size());
  const Status announced = send_bytes(connection, &head, sizeof head);
  if (!announced.ok()) return announced;
  const Status sent = send_bytes(connection, text.data(), text.size());
  if (!sent.ok()) return sent;
  return send_descriptors(connection, descriptors);
}

Result<Handover> receive_handover(int connection) {
  Result<Message> message = receive_message(connection);
  if (!message.ok()) return message.error();
  if (message->head.kind == Kind::kRefusal) return Error(ErrorCode::kBusy, message->text);
  Handover handover;
  while (handover.sockets.size() < message->head.descriptors) {
    const Status more = receive_some_descriptors(connection, handover.sockets);
    if (!more.ok()) return more.error();
  }
  if (handover.sockets.empty()) return Error(ErrorCode::kProtocol, "a handover without a lock");
  handover.lock = std::move(handover.sockets.back());
  handover.sockets.pop_back();
  Result<HandoverState> state = handover_from_json(message->text);
  if (!state.ok()) return state.error();
  handover.state = *std::move(state);
  return handover;
}

Status send_refusal(int connection, const Error& error) {
  set_patience(connection);
  return send_message(connection, Kind::kRefusal, error.message());
}

Status send_verdict(int connection, const Status& verdict) {
  if (verdict.ok()) return send_message(connection, Kind::kOk, "");
  return send_message(connection, Kind::kRefusal, verdict.error().message());
}

Status receive_verdict(int connection) {
  const Result<Message> message = receive_message(connection);
  if (!message.ok()) return message.error();
  if (message->head.kind == Kind::kOk) return {};
  return Error(ErrorCode::kPrecondition, message->text);
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/fd_store.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace blockmig {
namespace {

constexpr const char* kStateName = "blockmig.state";

std::string name_of(std::size_t index) {
  return std::string(kStoredPrefix) + std::to_string(index);
}

/// One datagram, with a descriptor or without (negative).
Status notify(const std::string& text, int descriptor) {
  const char* const where = std::getenv("NOTIFY_SOCKET");
  if (where == nullptr || *where == '\0') {
    return Error(ErrorCode::kPrecondition, "no service manager started this (NOTIFY_SOCKET)");
  }
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::size_t length = std::strlen(where);
  if (length >= sizeof address.sun_path) {
    return Error(ErrorCode::kInvalid, "NOTIFY_SOCKET is longer than a socket's path can be");
  }
  std::memcpy(address.sun_path, where, length);
  if (*where == '@') address.sun_path[0] = '\0';  // an abstract name
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::string bytes = text;
  iovec part{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length);
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  if (descriptor >= 0) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  if (::sendmsg(socket.get(), &message, MSG_NOSIGNAL) < 0) {
    return Error::from_errno(errno, "telling the service manager");
  }
  return {};
}

Status store(const std::string& name, int descriptor) {
  // FDPOLL=0: the manager does not drop a client's connection by itself.
  return notify("FDSTORE=1\nFDPOLL=0\nFDNAME=" + name, descriptor);
}

Result<UniqueFd> memory_file(const std::string& text) {
  UniqueFd file(::memfd_create("blockmig-handover", MFD_CLOEXEC));
  if (!file) return Error::from_errno(errno, "memfd_create");
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t put = ::write(file.get(), text.data() + at, text.size() - at);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return Error::from_errno(errno, "writing the handover's state");
    at += static_cast<std::size_t>(put);
  }
  return file;
}

Result<std::string> text_of(int file) {
  struct stat facts {};
  if (::fstat(file, &facts) != 0 || facts.st_size < 0) {
    return Error::from_errno(errno, "reading the handover's state");
  }
  std::string text(static_cast<std::size_t>(facts.st_size), '\0');
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t got = ::pread(file, text.data() + at, text.size() - at, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Error(ErrorCode::kProtocol, "the stored handover's state is cut short");
    at += static_cast<std::size_t>(got);
  }
  return text;
}

}  // namespace

Status notify_service_manager(const std::string& state) {
  const Status told = notify(state, -1);
  if (!told && told.error().code() == ErrorCode::kPrecondition) return {};
  return told;
}

Status store_handover(const Handover& handover) {
  const Result<UniqueFd> state = memory_file(to_json(handover.state));
  if (!state) return state.error();
  for (std::size_t i = 0; i < handover.sockets.size(); ++i) {
    const Status stored = store(name_of(i), handover.sockets[i].get());
    if (!stored) return stored;
  }
  return store(kStateName, state->get());  // last: with it the handover is whole
}

Result<std::shared_ptr<Handover>> take_stored_handover(std::vector<InheritedSocket>& sockets) {
  auto handover = std::make_shared<Handover>();
  UniqueFd state;
  std::vector<std::pair<std::size_t, UniqueFd>> numbered;
  for (InheritedSocket& socket : sockets) {
    if (!is_stored(socket)) continue;
    if (socket.name == kStateName) {
      state = std::move(socket.fd);
      continue;
    }
    std::size_t index = 0;
    const char* const begin = socket.name.data() + kStoredPrefix.size();
    std::from_chars(begin, socket.name.data() + socket.name.size(), index);
    numbered.emplace_back(index, std::move(socket.fd));
  }
  std::erase_if(sockets, is_stored);
  if (!state) return std::shared_ptr<Handover>();  // connections without it are of no use
  std::sort(numbered.begin(), numbered.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  for (auto& each : numbered) handover->sockets.push_back(std::move(each.second));
  const Result<std::string> text = text_of(state.get());
  if (!text) return text.error();
  Result<HandoverState> parsed = handover_from_json(*text);
  if (!parsed) return parsed.error().with_context("the stored handover");
  handover->state = *std::move(parsed);
  return handover;
}

Status forget_stored_handover(const Handover& handover) {
  Status first = notify_service_manager("FDSTOREREMOVE=1\nFDNAME=" + std::string(kStateName));
  for (std::size_t i = 0; i < handover.sockets.size(); ++i) {
    const Status removed = notify_service_manager("FDSTOREREMOVE=1\nFDNAME=" + name_of(i));
    if (first.ok()) first = removed;
  }
  return first;
}

}  // namespace blockmig

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
#include <cstdlib>
#include <cstring>
#include <map>
#include <utility>

#include "blockmig/io/raw_address.h"

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

/// Of the socket, whoever has copies of it, and of no other one. 0: this kernel has none.
std::uint64_t cookie_of(int socket) {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  const bool known = ::getsockopt(socket, SOL_SOCKET, SO_COOKIE, &cookie, &length) == 0;
  return known ? cookie : 0;
}

/// By name, of which a store may have several alike.
struct StoredSet {
  std::multimap<std::string, UniqueFd> states;
  std::multimap<std::string, UniqueFd> sockets;
};

Error no_state(std::size_t found) {
  return Error(ErrorCode::kPrecondition, found == 0 ? "it has no state" : "it has several states");
}

Result<Handover> read_handover(int state) {
  const Result<std::string> text = text_of(state);
  if (!text) return text.error();
  Result<HandoverState> parsed = handover_from_json(*text);
  if (!parsed) return parsed.error();
  Handover handover;
  handover.state = *std::move(parsed);
  return handover;
}

/// Takes the one that the state means out of `stored`; none: it is not there.
UniqueFd take_socket(StoredSet& stored, std::size_t index, std::uint64_t cookie) {
  const auto [begin, end] = stored.sockets.equal_range(name_of(index));
  const auto found = std::find_if(begin, end, [cookie](const auto& each) {
    return cookie == 0 || cookie_of(each.second.get()) == cookie;
  });
  if (found == end) return UniqueFd();
  UniqueFd socket = std::move(found->second);
  stored.sockets.erase(found);
  return socket;
}

/// What the store had no room for is taken out of the state: how much that is. `listen`: addresses
/// among it.
std::size_t give_sockets(Handover& handover, StoredSet& stored, std::vector<std::string>& listen) {
  HandoverState& state = handover.state;
  const std::vector<std::uint64_t> cookies = std::exchange(state.cookies, {});
  std::size_t index = 0;
  const auto is_lost = [&] {
    UniqueFd socket = take_socket(stored, index, index < cookies.size() ? cookies[index] : 0);
    ++index;
    const bool lost = !socket;
    if (!lost) handover.sockets.push_back(std::move(socket));
    return lost;
  };
  std::size_t lost = 0;
  std::vector<HandoverListener> listeners;
  for (HandoverListener& listener : state.listeners) {
    if (is_lost()) {
      ++lost;
      if (!listener.asked.empty()) listen.push_back(std::move(listener.asked));
    } else {
      listeners.push_back(std::move(listener));
    }
  }
  state.listeners = std::move(listeners);
  std::vector<HandoverClient> clients;
  for (HandoverClient& client : state.clients) {
    if (is_lost()) {
      ++lost;
    } else {
      clients.push_back(std::move(client));
    }
  }
  state.clients = std::move(clients);
  return lost;
}

/// A socket unit's is its own, and passed at every start.
bool is_passed_too(const UniqueFd& socket, const std::vector<InheritedSocket>& passed) {
  const std::uint64_t cookie = cookie_of(socket.get());
  return std::any_of(passed.begin(), passed.end(), [cookie](const InheritedSocket& each) {
    return cookie_of(each.fd.get()) == cookie;
  });
}

/// That the clients can be gone on with, before their listeners are given up for them.
Status check_usable(const Handover& handover) {
  const Result<ParkedServer> parked = parked_of(handover);
  return parked.ok() ? Status() : Status(parked.error());
}

std::string complaint_of(const Status& usable, std::size_t lost) {
  constexpr const char* kRemedy =
      ": have FileDescriptorStoreMax= above the number of connections and listeners, and "
      "TimeoutStopSec= above --stop-timeout";
  if (!usable) {
    return "what the daemon before left with the service manager cannot be gone on with, and its "
           "clients are cut (" +
           usable.error().message() + ")" + kRemedy;
  }
  if (lost == 0) return "";
  return "of what the daemon before left, the service manager has not kept all: " +
         std::to_string(lost) + " connections or listeners are cut" + kRemedy;
}

}  // namespace

bool has_service_manager() {
  const char* const where = std::getenv("NOTIFY_SOCKET");
  return where != nullptr && *where != '\0';
}

Status notify_service_manager(const std::string& state) {
  const Status told = notify(state, -1);
  if (!told && told.error().code() == ErrorCode::kPrecondition) return {};
  return told;
}

Status tell_of_end() { return notify("STOPPING=1", -1); }

Status store_handover(Handover& handover) {
  leave_out_activated(handover);
  for (const UniqueFd& socket : handover.sockets) {
    handover.state.cookies.push_back(cookie_of(socket.get()));
  }
  const Result<UniqueFd> state = memory_file(to_json(handover.state));
  if (!state) return state.error();
  Status stored = store(kStateName, state->get());
  for (std::size_t i = 0; stored && i < handover.sockets.size(); ++i) {
    stored = store(name_of(i), handover.sockets[i].get());
  }
  return stored;
}

void drop_handover(const Handover& handover) {
  const auto forget = [](const std::string& name) {
    (void)notify_service_manager("FDSTOREREMOVE=1\nFDNAME=" + name);
  };
  forget(kStateName);
  for (std::size_t i = 0; i < handover.sockets.size(); ++i) {
    const int socket = handover.sockets[i].get();
    forget(name_of(i));
    // While ours listens nobody else has its file.
    const auto address = local_address(socket);
    const bool listens = i < handover.state.listeners.size();
    if (listens && address.ok() && address->family() == AF_UNIX) {
      const SocketAddress bound = to_socket_address(*address);
      if (bound.path.starts_with('/')) (void)::unlink(bound.path.c_str());
    }
    (void)::shutdown(socket, SHUT_RDWR);  // the store may have copies of it
  }
}

StoredHandover take_stored_handover(std::vector<InheritedSocket>& sockets) {
  StoredHandover taken;
  StoredSet stored;
  for (InheritedSocket& socket : sockets) {
    if (!is_stored(socket)) continue;
    taken.names.insert(socket.name);
    auto& where = socket.name == kStateName ? stored.states : stored.sockets;
    where.emplace(socket.name, std::move(socket.fd));
  }
  std::erase_if(sockets, is_stored);
  if (taken.names.empty()) return taken;
  Result<Handover> whole = stored.states.size() == 1
                               ? read_handover(stored.states.begin()->second.get())
                               : no_state(stored.states.size());
  std::size_t lost = 0;
  if (whole.ok()) lost = give_sockets(*whole, stored, taken.listen);
  const Status usable = whole.ok() ? check_usable(*whole) : Status(whole.error());
  if (usable) {
    taken.handover = std::make_shared<Handover>(*std::move(whole));
  } else if (whole.ok()) {
    for (UniqueFd& socket : whole->sockets) stored.sockets.emplace("", std::move(socket));
  }
  // The service manager's copies would keep addresses, and clients that nobody answers.
  for (const auto& [name, socket] : stored.sockets) {
    if (!is_passed_too(socket, sockets)) (void)::shutdown(socket.get(), SHUT_RDWR);
  }
  taken.complaint = complaint_of(usable, lost);
  return taken;
}

Status forget_stored_handover(const StoredHandover& stored) {
  Status first;
  for (const std::string& name : stored.names) {
    const Status removed = notify_service_manager("FDSTOREREMOVE=1\nFDNAME=" + name);
    if (first.ok()) first = removed;
  }
  return first;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/inherited_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <optional>
#include <utility>

#include "blockmig/io/descriptor_stream.h"

namespace blockmig {
namespace {

/// The first one after standard error (SD_LISTEN_FDS_START).
constexpr int kFirstActivatedFd = 3;
/// Nobody passes more; beyond it the number is not to be believed.
constexpr int kMaxActivatedFds = 65536;

std::optional<std::string> take_variable(const char* name) {
  const char* value = std::getenv(name);  // NOLINT(concurrency-mt-unsafe): before threads start
  std::optional<std::string> text;
  if (value != nullptr) text = value;
  ::unsetenv(name);  // NOLINT(concurrency-mt-unsafe)
  return text;
}

std::optional<int> to_number(const std::string& text) {
  int number = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  if (text.empty() || parsed.ec != std::errc() || parsed.ptr != end) return std::nullopt;
  return number;
}

std::vector<std::string> split_names(const std::string& text) {
  std::vector<std::string> names;
  std::string name;
  for (const char c : text + ":") {
    if (c != ':') {
      name += c;
    } else {
      names.push_back(std::exchange(name, {}));
    }
  }
  return names;
}

Error bad_variable(const char* name, const std::string& value) {
  return Error(ErrorCode::kInvalid,
               std::string("socket activation: ") + name + " is '" + value + "'");
}

Result<InheritedSocket> take_socket(int fd, std::string name) {
  InheritedSocket socket;
  socket.fd = UniqueFd(fd);
  socket.name = name.empty() ? "unknown" : std::move(name);
  const std::string what =
      "socket activation: descriptor " + std::to_string(fd) + " ('" + socket.name + "')";
  if (is_stored(socket)) {
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return Error::from_errno(errno, what);
    return socket;
  }
  int type = 0;
  int listening = 0;
  socklen_t length = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) != 0) {
    return Error(ErrorCode::kInvalid,
                 what + (errno == EBADF ? " is not open" : " is not a socket"));
  }
  if (type != SOCK_STREAM) return Error(ErrorCode::kInvalid, what + " is not a stream socket");
  length = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) != 0 ||
      ::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
    return Error::from_errno(errno, what);
  }
  socket.listening = listening != 0;
  return socket;
}

struct FdKind {
  bool open = false;
  bool is_pipe = false;
  bool is_socket = false;
};

FdKind kind_of(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return {};
  return {true, S_ISFIFO(status.st_mode), S_ISSOCK(status.st_mode)};
}

Status check_standard(int fd, const char* name) {
  const FdKind kind = kind_of(fd);
  if (kind.is_pipe || kind.is_socket) return {};
  return Error(ErrorCode::kPrecondition,
               std::string(name) +
                   (!kind.open          ? " is closed"
                    : ::isatty(fd) == 1 ? " is a terminal"
                                        : " is neither a pipe nor a socket") +
                   ": NBD over standard input and output needs a pipe or socket on both, or a "
                   "socket on standard input");
}

/// A copy of `fd`, whose place /dev/null takes.
Result<UniqueFd> move_away(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, kFirstActivatedFd));
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!copy || !null || ::dup2(null.get(), fd) < 0) {
    return Error::from_errno(errno, "descriptor " + std::to_string(fd));
  }
  return copy;
}

bool same_file(int a, int b) {
  struct stat first {};
  struct stat second {};
  return ::fstat(a, &first) == 0 && ::fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

}  // namespace

Result<std::vector<InheritedSocket>> take_activated_sockets() {
  return take_activated_sockets(kFirstActivatedFd);
}

Result<std::vector<InheritedSocket>> take_activated_sockets(int first_fd) {
  const auto pid = take_variable("LISTEN_PID");
  const auto count = take_variable("LISTEN_FDS");
  const auto names = take_variable("LISTEN_FDNAMES");
  std::vector<InheritedSocket> sockets;
  if (!pid || !count) return sockets;
  const std::optional<int> meant = to_number(*pid);
  if (!meant) return bad_variable("LISTEN_PID", *pid);
  if (*meant != ::getpid()) return sockets;
  const std::optional<int> fds = to_number(*count);
  if (!fds || *fds < 0 || *fds > kMaxActivatedFds) return bad_variable("LISTEN_FDS", *count);
  std::vector<std::string> parts(static_cast<std::size_t>(*fds));
  if (names) {
    parts = split_names(*names);
    if (parts.size() != static_cast<std::size_t>(*fds)) {
      return bad_variable("LISTEN_FDNAMES", *names)
          .with_context("not one name for each of " + *count + " descriptors");
    }
  }
  for (int i = 0; i < *fds; ++i) {
    auto socket = take_socket(first_fd + i, std::move(parts[static_cast<std::size_t>(i)]));
    if (!socket) return socket.error();
    sockets.push_back(*std::move(socket));
  }
  return sockets;
}

Result<StandardStreams> take_standard_streams() {
  const Status input = check_standard(STDIN_FILENO, "standard input");
  if (!input) return input.error();
  const bool same = same_file(STDIN_FILENO, STDOUT_FILENO);
  const FdKind out_kind = kind_of(STDOUT_FILENO);
  const bool one_socket =
      kind_of(STDIN_FILENO).is_socket && (same || !(out_kind.is_pipe || out_kind.is_socket));
  if (!one_socket) {
    const Status output = check_standard(STDOUT_FILENO, "standard output");
    if (!output) return output.error();
  }
  StandardStreams streams;
  auto in = move_away(STDIN_FILENO);
  if (!in) return in.error();
  streams.in = *std::move(in);
  if (one_socket && !same) return streams;
  // One connection on both: this copy would keep it open, and what is printed would get into it.
  auto out = move_away(STDOUT_FILENO);
  if (!out) return out.error();
  if (!one_socket) streams.out = *std::move(out);
  return streams;
}

Result<std::unique_ptr<Stream>> adopt_standard_streams(IoLoop& loop, StandardStreams streams) {
  if (!streams.out) return adopt_socket(loop, streams.in.release());
  return adopt_descriptors(loop, std::move(streams.in), std::move(streams.out));
}

}  // namespace blockmig

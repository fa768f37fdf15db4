// SPDX-License-Identifier: Apache-2.0
// The answering end of the control socket.
#include <httplib.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "blockmig/base/error.h"
#include "blockmig/base/uri.h"
#include "blockmig/io/unique_fd.h"
#include "tools/control/command_queue.h"
#include "tools/control/control_server.h"
#include "tools/control/json.h"
#include "tools/control/messages.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

constexpr int kIgnoredPort = 80;         // the library wants one; a unix socket has none
constexpr time_t kServerPatience_s = 5;  // for a request as a whole, and again for its answer
constexpr std::size_t kThreads = 16;     // for what is only asked; commands have their own
constexpr int kGrace_ms = 20;            // at the stop, for who has just connected
constexpr std::size_t kMaxHeadBytes = 64 << 10;
constexpr int kBacklog = 128;  // the library's 5 turns away a burst of clients
constexpr const char* kJson = "application/json";

using Clock = std::chrono::steady_clock;

/// One connection. The library's own stream waits for every byte anew and takes as many as come;
/// here a request has a deadline and a size, and nothing waits once the server stops. What the
/// socket takes without waiting is still sent then: whoever asked for the end hears of it.
class BoundedStream final : public httplib::Stream {
 public:
  /// `stop` becomes readable when the server stops. Both outlive the stream.
  BoundedStream(int socket, int stop) : socket_(socket), stop_(stop) {}

  /// Waits for the first byte, or the end of the stream. False: as ready().
  bool begins() const { return ready(POLLIN, read_until_); }
  bool is_readable() const override { return at_ < held_.size() || ready(POLLIN, Clock::now()); }
  bool is_writable() const override { return ready(POLLOUT, Clock::now()); }
  ssize_t read(char* bytes, std::size_t size) override;
  ssize_t write(const char* bytes, std::size_t size) override;
  void get_remote_ip_and_port(std::string&, int&) const override {}  // a unix client has none
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return socket_; }

 private:
  /// False: not until then, or the server stops.
  bool ready(short events, Clock::time_point until) const;

  int socket_;
  int stop_;
  Clock::time_point read_until_ = Clock::now() + std::chrono::seconds(kServerPatience_s);
  std::optional<Clock::time_point> write_until_;
  std::size_t room_ = kMaxControlBodyBytes + kMaxHeadBytes;  ///< what may still be received
  char buffer_[4096];
  std::string_view held_;  ///< of buffer_
  std::size_t at_ = 0;     ///< in held_
};

bool BoundedStream::ready(short events, Clock::time_point until) const {
  pollfd both[] = {{socket_, events, 0}, {stop_, POLLIN, 0}};
  int answered = -1;
  do {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    answered = ::poll(both, 2, static_cast<int>(std::max<std::int64_t>(left, 0)));
  } while (answered < 0 && errno == EINTR);
  return answered > 0 && both[0].revents != 0 && both[1].revents == 0;
}

ssize_t BoundedStream::read(char* bytes, std::size_t size) {
  if (at_ == held_.size()) {
    const std::size_t wanted = std::min(room_, sizeof buffer_);
    if (wanted == 0 || !ready(POLLIN, read_until_)) return -1;
    const ssize_t received = ::recv(socket_, buffer_, wanted, MSG_DONTWAIT);
    if (received <= 0) return received;
    room_ -= static_cast<std::size_t>(received);
    held_ = {buffer_, static_cast<std::size_t>(received)};
    at_ = 0;
  }
  const std::size_t taken = held_.copy(bytes, size, at_);
  at_ += taken;
  return static_cast<ssize_t>(taken);
}

ssize_t BoundedStream::write(const char* bytes, std::size_t size) {
  if (!write_until_) write_until_ = Clock::now() + std::chrono::seconds(kServerPatience_s);
  for (;;) {
    const ssize_t sent = ::send(socket_, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    if (errno != EAGAIN && errno != EINTR) return -1;
    if (!ready(POLLOUT, *write_until_)) return -1;
  }
}

/// False: not within that time.
bool becomes(int fd, short events, int milliseconds) {
  pollfd one{fd, events, 0};
  return ::poll(&one, 1, milliseconds) == 1;
}

/// What arrives is read and forgotten: who is still sending when the socket closes, or has sent
/// what nobody has read, never sees the answer. Until the peer has seen it, or for a moment.
void take_leave(int socket) {
  (void)::shutdown(socket, SHUT_WR);
  std::array<char, 4096> rest;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(kGrace_ms);
  while (becomes(socket, POLLIN, kGrace_ms) && std::chrono::steady_clock::now() < until) {
    if (::recv(socket, rest.data(), rest.size(), MSG_DONTWAIT) <= 0) return;
  }
}

/// Instead of the request, which is not looked at. What has not been sent by then, nobody waits
/// for.
void refuse(int socket, CommandQueue::Turn turn) {
  const bool stopping = turn == CommandQueue::Turn::kStopping;
  const Error why = stopping ? Error(ErrorCode::kShutdown, "not begun: the daemon is stopping")
                             : Error(ErrorCode::kBusy,
                                     "not begun: too many commands wait for what does not answer "
                                     "in time: see the daemon's log");
  const std::string body = error_response(why).body;
  const std::string text = "HTTP/1.1 503 Service Unavailable\r\n" +
                           std::string(stopping ? "Retry-After: 0\r\n" : "") +
                           "Connection: close\r\nContent-Type: " + kJson +
                           "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  (void)!::send(socket, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  take_leave(socket);
}

/// The library's server with connections that end: by themselves, and at once when it stops. What
/// is only asked (GET) never waits behind commands.
class BoundedServer final : public httplib::Server {
 public:
  explicit BoundedServer(const CommandQueue::Limits& limits) : commands_(limits) {}
  /// A server that listens: stops it. Connections that it has not come to yet are closed.
  void stop_now() {
    const std::uint64_t one = 1;
    (void)!::write(stop_.get(), &one, sizeof one);
    stop();
  }

  /// Behind it: once no connection is accepted any more.
  void stop_commands() { commands_.stop(); }

 private:
  bool process_and_close_socket(socket_t accepted) override {
    UniqueFd socket(accepted);
    char first = 0;
    if (!begins(socket.get(), first)) return false;
    if (first == 'G') return serve(socket.get());
    const auto kept = std::make_shared<UniqueFd>(std::move(socket));
    commands_.add([this, kept](CommandQueue::Turn turn) {
      if (turn != CommandQueue::Turn::kBegin) return refuse(kept->get(), turn);
      const bool given_up = becomes(kept->get(), 0, 0);  // hung up
      if (!given_up) (void)serve(kept->get());
    });
    return true;
  }

  bool serve(int socket) {
    BoundedStream stream(socket, stop_.get());
    constexpr bool kOneRequest = true;  // an idle connection must not hold a thread
    bool closed = false;
    return process_request(stream, kOneRequest, closed, nullptr);
  }

  /// Looks at a request's first byte. False: there is none, or the server stops.
  bool begins(int socket, char& first) const {
    const BoundedStream stream(socket, stop_.get());
    const bool running = stream.begins();
    if (!running && becomes(stop_.get(), POLLIN, 0) && becomes(socket, POLLIN, kGrace_ms)) {
      refuse(socket, CommandQueue::Turn::kStopping);
    }
    return running && ::recv(socket, &first, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
  }

  UniqueFd stop_{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  CommandQueue commands_;
};

void answer(ControlHandler& handler, const httplib::Request& request, httplib::Response& response) {
  const ControlResponse result = handler.handle({request.method, request.path, request.body});
  response.status = result.status;
  response.set_content(result.body, result.content_type);
}

void set_up(httplib::Server& server, ControlHandler& handler) {
  server.set_address_family(AF_UNIX);
  server.set_payload_max_length(kMaxControlBodyBytes);
  server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  const auto route = [&handler](const httplib::Request& request, httplib::Response& response) {
    answer(handler, request, response);
  };
  constexpr const char* kAnyPath = "/.*";
  server.Get(kAnyPath, route);
  server.Post(kAnyPath, route);
  server.Put(kAnyPath, route);
  server.Patch(kAnyPath, route);
  server.Delete(kAnyPath, route);
  // What the library itself refuses (too large, not HTTP) says so in our form too.
  server.set_error_handler([](const httplib::Request&, httplib::Response& response) {
    if (!response.body.empty()) return;
    const int status = response.status;
    const ErrorCode code = status == 413 ? ErrorCode::kOverflow : ErrorCode::kInvalid;
    response.set_content(
        error_response(Error(code, "bad request: HTTP status " + std::to_string(status))).body,
        kJson);
  });
}

}  // namespace

struct ControlServer::State {
  explicit State(const CommandQueue::Limits& limits) : server(limits) {}
  std::string path;
  int fd = -1;  // the library's, to enlarge the backlog
  BoundedServer server;
  std::thread thread;
};

ControlServer::ControlServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& socket_path,
                                                            ControlHandler& handler,
                                                            const CommandQueue::Limits& limits) {
  const Status path_fits = check_socket_path(socket_path);
  if (!path_fits) return path_fits.error();
  auto state = std::make_unique<State>(limits);
  state->path = socket_path;
  set_up(state->server, handler);
  if (unlink(socket_path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "cannot replace the control socket '" + socket_path + "'");
  }
  State* raw = state.get();
  state->server.set_socket_options([raw](int fd) { raw->fd = fd; });
  // The mode must hold from the first instant: between bind and chmod anybody could connect (I15).
  const mode_t before = umask(0177);
  const bool bound = state->server.bind_to_port(socket_path, kIgnoredPort);
  const int bind_errno = errno;
  umask(before);
  if (!bound || ::listen(state->fd, kBacklog) != 0) {
    return Error::from_errno(bind_errno == 0 ? EIO : bind_errno,
                             "cannot listen on the control socket '" + socket_path + "'");
  }
  state->thread = std::thread([raw] { raw->server.listen_after_bind(); });
  // stop() before the accept loop runs would be lost.
  while (!state->server.is_running()) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(state)));
}

ControlServer::~ControlServer() {
  // First, so that nobody connects to a server that will not answer.
  unlink(state_->path.c_str());
  // Who connected before is told, or served: it cannot know whether its request was carried out.
  for (int i = 0; i < kGrace_ms && becomes(state_->fd, POLLIN, 0); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  state_->server.stop_now();
  state_->thread.join();
  state_->server.stop_commands();
}

}  // namespace blockmig

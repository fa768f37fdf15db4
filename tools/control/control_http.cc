// SPDX-License-Identifier: Apache-2.0
// Both ends of the control socket; the only source that sees the HTTP library.
#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <thread>
#include <utility>

#include "blockmig/base/error.h"
#include "blockmig/base/uri.h"
#include "tools/control/control_client.h"
#include "tools/control/control_server.h"
#include "tools/control/json.h"
#include "tools/control/messages.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

constexpr int kIgnoredPort = 80;  // the library wants one; a unix socket has none
constexpr time_t kServerPatience_s = 5;
constexpr time_t kClientPatience_s = 15;  // longer than the daemon's own bound
constexpr std::size_t kThreads = 16;
constexpr int kBacklog = 128;  // the library's 5 turns away a burst of clients
constexpr const char* kJson = "application/json";

void answer(ControlHandler& handler, const httplib::Request& request, httplib::Response& response) {
  const ControlResponse result = handler.handle({request.method, request.path, request.body});
  response.status = result.status;
  response.set_content(result.body, result.content_type);
}

void set_up(httplib::Server& server, ControlHandler& handler) {
  server.set_address_family(AF_UNIX);
  server.set_keep_alive_max_count(1);  // an idle connection must not hold a thread
  server.set_read_timeout(kServerPatience_s);
  server.set_write_timeout(kServerPatience_s);
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

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), std::min(path.size(), sizeof(address.sun_path) - 1));
  return address;
}

/// The library says only that there is no connection.
std::string why_no_answer(const std::string& path, const std::string& library_text) {
  if (access(path.c_str(), R_OK | W_OK) != 0) return std::generic_category().message(errno);
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  const auto* const place = reinterpret_cast<const sockaddr*>(&address);
  if (connect(fd.get(), place, sizeof(address)) != 0) {
    return std::generic_category().message(errno);
  }
  return library_text;
}

Error unreachable(const std::string& path, const std::string& why) {
  return Error(ErrorCode::kShutdown,
               "no daemon answers: " + path + " (" + why +
                   "): start one with 'blockmigd' or 'blockmig serve', or give its --state-dir");
}

}  // namespace

struct ControlServer::State {
  std::string path;
  int fd = -1;  // the library's, to enlarge the backlog
  httplib::Server server;
  std::thread thread;
};

ControlServer::ControlServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& socket_path,
                                                            ControlHandler& handler) {
  const Status path_fits = check_socket_path(socket_path);
  if (!path_fits) return path_fits.error();
  auto state = std::make_unique<State>();
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
  state_->server.stop();
  state_->thread.join();
}

ControlResponse ControlClient::handle(const ControlRequest& request) {
  const Status path_fits = check_socket_path(socket_path_);
  if (!path_fits) return error_response(path_fits.error());
  httplib::Client client(socket_path_, kIgnoredPort);
  client.set_address_family(AF_UNIX);
  client.set_connection_timeout(kServerPatience_s);
  client.set_read_timeout(kClientPatience_s);
  client.set_write_timeout(kServerPatience_s);
  const std::string path = percent_encode_path(request.path);
  httplib::Result result = request.method == "GET" ? client.Get(path.c_str())
                           : request.method == "DELETE"
                               ? client.Delete(path.c_str())
                               : client.Post(path.c_str(), request.body, kJson);
  if (!result) {
    const std::string why = why_no_answer(socket_path_, httplib::to_string(result.error()));
    return error_response(unreachable(socket_path_, why));
  }
  return {result->status, result->body};
}

bool ControlClient::daemon_listens() const {
  if (!check_socket_path(socket_path_)) return false;
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return false;
  const sockaddr_un address = address_of(socket_path_);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API's own form
  return connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The asking end of the control socket.
#include "tools/control/control_client.h"

#include <httplib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "blockmig/base/error.h"
#include "blockmig/base/uri.h"
#include "blockmig/io/unique_fd.h"
#include "tools/control/json.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

constexpr int kIgnoredPort = 80;  // the library wants one; a unix socket has none
constexpr time_t kSendPatience_s = 5;
constexpr time_t kClientPatience_s = 15;  // longer than the daemon's own bounds
constexpr const char* kJson = "application/json";
using Clock = std::chrono::steady_clock;
/// For who hands over, who waits up to 5 s for its clients' requests, and who takes over.
constexpr std::chrono::seconds kGapPatience{10};
constexpr std::chrono::milliseconds kLookInterval{20};

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

struct ControlClient::Attempt {
  std::optional<ControlResponse> response;
  bool again;           ///< it was not carried out, or only asks
  std::string failure;  ///< the library's word, where there is no response
  bool connected = true;
};

ControlClient::Attempt ControlClient::ask_once(const ControlRequest& request) const {
  httplib::Client client(socket_path_, kIgnoredPort);
  client.set_address_family(AF_UNIX);
  client.set_connection_timeout(kSendPatience_s);
  client.set_read_timeout(kClientPatience_s);
  client.set_write_timeout(kSendPatience_s);
  const std::string path = percent_encode_path(request.path);
  httplib::Result result = request.method == "GET" ? client.Get(path.c_str())
                           : request.method == "DELETE"
                               ? client.Delete(path.c_str())
                               : client.Post(path.c_str(), request.body, kJson);
  if (result) {
    return {ControlResponse{result->status, result->body}, result->has_header("Retry-After"), {}};
  }
  const bool connected = result.error() != httplib::Error::Connection;
  const bool harmless = request.method == "GET" || !connected;
  return {std::nullopt, harmless, httplib::to_string(result.error()), connected};
}

bool ControlClient::may_listen_before(Clock::time_point until) const {
  const std::string state_dir = std::filesystem::path(socket_path_).parent_path();
  if (Clock::now() >= until || !state_dir_is_held(state_dir)) return false;
  std::this_thread::sleep_for(kLookInterval);
  return true;
}

ControlResponse ControlClient::handle(const ControlRequest& request) {
  const Status path_fits = check_socket_path(socket_path_);
  if (!path_fits) return error_response(path_fits.error());
  const Clock::time_point until = Clock::now() + kGapPatience;
  for (;;) {
    Attempt attempt = ask_once(request);
    if (attempt.again && may_listen_before(until)) continue;
    if (attempt.response) return *std::move(attempt.response);
    const std::string why =
        attempt.connected ? attempt.failure : why_no_answer(socket_path_, attempt.failure);
    return error_response(unreachable(socket_path_, why));
  }
}

bool ControlClient::daemon_listens() const {
  if (!check_socket_path(socket_path_)) return false;
  const sockaddr_un address = address_of(socket_path_);
  const Clock::time_point until = Clock::now() + kGapPatience;
  do {
    const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!fd) return false;
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API's own form
    const auto* const place = reinterpret_cast<const sockaddr*>(&address);
    if (connect(fd.get(), place, sizeof(address)) == 0) return true;
  } while (may_listen_before(until));
  return false;
}

}  // namespace blockmig

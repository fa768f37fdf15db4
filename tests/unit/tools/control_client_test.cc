// SPDX-License-Identifier: Apache-2.0
// A client while one daemon takes another's place: what it asks again, and what it must not.
#include "tools/control/control_client.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>
#include <future>
#include <thread>

#include "blockmig/io/unique_fd.h"
#include "tests/unit/tools/scratch.h"
#include "tools/control/json.h"
#include "tools/control/state_dir.h"

namespace blockmig {
namespace {

constexpr const char* kDone = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
constexpr const char* kNotBegun =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}";
constexpr const char* kRefused = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\n{}";
constexpr const char* kNoAnswer = "";

class ControlClientTest : public testing::Test {
 protected:
  ControlClientTest() : listening_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
  void listen() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    ASSERT_EQ(::bind(listening_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listening_.get(), 8), 0);
  }
  std::future<ControlResponse> ask(const std::string& method) {
    return std::async(std::launch::async, [this, method] {
      return ControlClient(socket_).handle({method, "/v1/disks", "{}"});
    });
  }
  /// With the body that ask() sends: who is told before it has sent that is not told at all.
  static bool is_whole(const std::string& request) {
    const std::size_t end = request.find("\r\n\r\n");
    return end != request.npos && (!request.starts_with("POST") || request.ends_with("{}"));
  }
  /// Takes one request.
  void answer(const char* text) const {
    const UniqueFd connection(::accept(listening_.get(), nullptr, nullptr));
    char request[4096];
    std::string seen;
    while (!is_whole(seen)) {
      const ssize_t got = ::recv(connection.get(), request, sizeof request, 0);
      if (got <= 0) break;
      seen.append(request, static_cast<std::size_t>(got));
    }
    (void)!::send(connection.get(), text, std::strlen(text), MSG_NOSIGNAL);
    ::shutdown(connection.get(), SHUT_RDWR);
  }

  Scratch scratch_;
  std::string folder_ = scratch_ / "s";
  std::string socket_ = control_socket_path(folder_);
  Result<StateDirLock> held_ = StateDirLock::acquire(folder_);
  UniqueFd listening_;
};

TEST_F(ControlClientTest, WhereAFolderIsHeldItWaitsForADaemonThatListens) {
  for (const char* method : {"GET", "POST", "DELETE"}) {
    std::future<ControlResponse> asked = ask(method);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // so that it finds nobody
    listen();
    answer(kDone);
    EXPECT_TRUE(asked.get().ok()) << method;
    ::unlink(socket_.c_str());
    listening_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
}

TEST_F(ControlClientTest, WhereNobodyHoldsTheFolderItDoesNotWait) {
  held_ = Error(ErrorCode::kNotFound, "let go");
  EXPECT_FALSE(state_dir_is_held(folder_));
  EXPECT_FALSE(ControlClient(socket_).daemon_listens());
  EXPECT_EQ(error_from_response(ask("POST").get()).code(), ErrorCode::kShutdown);
}

TEST_F(ControlClientTest, WhatMayHaveBeenCarriedOutIsNotAskedAgain) {
  listen();
  for (const char* method : {"POST", "DELETE"}) {
    std::future<ControlResponse> asked = ask(method);
    answer(kNoAnswer);
    EXPECT_EQ(error_from_response(asked.get()).code(), ErrorCode::kShutdown) << method;
    asked = ask(method);
    answer(kRefused);
    EXPECT_EQ(asked.get().status, 503) << method;
  }
}

TEST_F(ControlClientTest, WhatWasNotBegunOrOnlyAsksIsAskedAgain) {
  listen();
  std::future<ControlResponse> asked = ask("POST");
  answer(kNotBegun);
  answer(kDone);
  EXPECT_TRUE(asked.get().ok());
  asked = ask("GET");
  answer(kNoAnswer);
  answer(kDone);
  EXPECT_TRUE(asked.get().ok());
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Both ends of the control socket, around a handler that only remembers.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <cstring>
#include <future>
#include <mutex>
#include <thread>

#include "blockmig/io/unique_fd.h"
#include "tests/unit/tools/scratch.h"
#include "tools/control/control_client.h"
#include "tools/control/control_server.h"
#include "tools/control/json.h"

namespace blockmig {
namespace {

constexpr std::chrono::seconds kPatience{20};

class Recorder final : public ControlHandler {
 public:
  ControlResponse handle(const ControlRequest& request) override {
    {
      const std::lock_guard lock(mutex_);
      last_ = request;
      ++count_;
    }
    if (request.path == "/v1/stop") {
      asked_to_stop.set_value();
      std::this_thread::sleep_for(std::chrono::milliseconds(100));  // the server is ending now
    }
    if (request.path == "/v1/missing") return error_response(Error(ErrorCode::kNotFound, "gone"));
    return {200, R"({"ok":true})"};
  }
  ControlRequest last() {
    const std::lock_guard lock(mutex_);
    return last_;
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }
  std::promise<void> asked_to_stop;

 private:
  std::mutex mutex_;
  ControlRequest last_;
  int count_ = 0;
};

class ControlHttp : public testing::Test {
 protected:
  void SetUp() override {
    auto server = ControlServer::start(socket_, recorder_);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = *std::move(server);
  }

  UniqueFd connected() const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, socket_.data(), socket_.size());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }

  /// Sends raw bytes, reads until the server closes.
  std::string talk(const std::string& bytes) const {
    const UniqueFd fd = connected();
    EXPECT_GE(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
    shutdown(fd.get(), SHUT_WR);
    std::string answer;
    char buffer[4096];
    for (ssize_t n = 0; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
      answer.append(buffer, static_cast<std::size_t>(n));
    }
    return answer;
  }

  Scratch scratch_;
  std::string socket_ = scratch_ / "control.sock";
  Recorder recorder_;
  std::unique_ptr<ControlServer> server_;
  ControlClient client_{socket_};
};

TEST_F(ControlHttp, CarriesMethodPathAndBody) {
  for (const char* method : {"GET", "POST", "DELETE"}) {
    const std::string body = std::string(method) == "POST" ? R"({"a":1})" : "";
    const ControlResponse response = client_.handle({method, "/v1/disks/a@b:c+d", body});
    EXPECT_EQ(response.status, 200);
    EXPECT_EQ(response.body, R"({"ok":true})");
    EXPECT_EQ(recorder_.last().method, method);
    EXPECT_EQ(recorder_.last().path, "/v1/disks/a@b:c+d");
    EXPECT_EQ(recorder_.last().body, body);
  }
}

TEST_F(ControlHttp, CarriesErrors) {
  const ControlResponse response = client_.handle({"GET", "/v1/missing", ""});
  EXPECT_EQ(response.status, 404);
  EXPECT_EQ(error_from_response(response).code(), ErrorCode::kNotFound);
}

TEST_F(ControlHttp, SocketIsPrivate_I15) {
  struct stat facts {};
  ASSERT_EQ(stat(socket_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
}

TEST_F(ControlHttp, TooLargeBodyIsRefusedAndTheServerGoesOn) {
  const ControlResponse response =
      client_.handle({"POST", "/v1/jobs", std::string(kMaxControlBodyBytes + 1, 'x')});
  EXPECT_FALSE(response.ok());
  EXPECT_EQ(recorder_.count(), 0);
  EXPECT_TRUE(client_.handle({"GET", "/v1/status", ""}).ok());
}

TEST_F(ControlHttp, NonsenseCostsOnlyItsOwnConnection) {
  for (const std::string& nonsense :
       {std::string("\0\1\2\3", 4), std::string("GET\r\n\r\n"), std::string(100000, 'A'),
        std::string("POST /v1/jobs HTTP/1.1\r\nContent-Length: -5\r\n\r\n"),
        std::string("BREW /pot HTTP/1.1\r\n\r\n")}) {
    talk(nonsense);
  }
  EXPECT_TRUE(client_.handle({"GET", "/v1/status", ""}).ok());
}

TEST_F(ControlHttp, AnIdleConnectionHoldsNobodyUp) {
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 6; ++i) idle.push_back(connected());
  EXPECT_TRUE(client_.handle({"GET", "/v1/status", ""}).ok());
}

/// False: the server has closed.
bool drip(const UniqueFd& fd) { return send(fd.get(), "A", 1, MSG_NOSIGNAL) == 1; }

TEST_F(ControlHttp, ARequestHasADeadlineAsAWhole) {
  const UniqueFd fd = connected();
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (drip(fd) && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_FALSE(drip(fd)) << "each byte has bought it time";
}

TEST_F(ControlHttp, ARequestHasASizeAsAWhole) {
  const UniqueFd fd = connected();
  const std::string begin = "GET /v1/status HTTP/1.1\r\n";
  ASSERT_GE(send(fd.get(), begin.data(), begin.size(), MSG_NOSIGNAL), 0);
  const std::string line = "X: " + std::string(4000, 'y') + "\r\n";
  std::size_t taken = 0;
  for (ssize_t sent = 0; taken < 64 * kMaxControlBodyBytes;
       taken += static_cast<std::size_t>(sent)) {
    sent = send(fd.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (sent < 0) break;
  }
  EXPECT_LT(taken, 32 * kMaxControlBodyBytes);
  EXPECT_TRUE(client_.handle({"GET", "/v1/status", ""}).ok());
}

TEST_F(ControlHttp, StoppingWaitsForNoClient) {
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(connected());  // more than there are threads
  ASSERT_TRUE(drip(clients[0]));
  std::future<void> stopped = std::async(std::launch::async, [this] { server_.reset(); });
  const auto until = std::chrono::steady_clock::now() + kPatience;
  bool waits = true;
  while (waits && std::chrono::steady_clock::now() < until) {
    drip(clients[0]);
    waits = stopped.wait_for(std::chrono::milliseconds(100)) != std::future_status::ready;
  }
  EXPECT_FALSE(waits) << "it waits for what its clients do next";
  for (const UniqueFd& client : clients) shutdown(client.get(), SHUT_RDWR);
}

TEST_F(ControlHttp, WhoAsksForTheEndIsAnswered) {
  std::future<ControlResponse> answer = std::async(std::launch::async, [this] {
    return client_.handle({"POST", "/v1/stop", "{}"});
  });
  recorder_.asked_to_stop.get_future().wait();
  server_.reset();
  EXPECT_EQ(answer.get().body, R"({"ok":true})");
}

TEST_F(ControlHttp, StaleSocketIsReplaced) {
  server_.reset();
  EXPECT_FALSE(client_.daemon_listens());
  std::ofstream(socket_) << "left over";
  auto again = ControlServer::start(socket_, recorder_);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_TRUE(client_.daemon_listens());
  EXPECT_TRUE(client_.handle({"GET", "/v1/status", ""}).ok());
}

TEST_F(ControlHttp, NoDaemonIsExitCodeSevenAndNamesTheSocket) {
  server_.reset();
  const ControlResponse response = client_.handle({"GET", "/v1/status", ""});
  const Error error = error_from_response(response);
  EXPECT_EQ(error.code(), ErrorCode::kShutdown);
  EXPECT_NE(error.message().find(socket_ + " (No such file"), std::string::npos);
}

TEST(ControlServerStart, TooLongPathIsAPrecondition) {
  Recorder recorder;
  const auto server = ControlServer::start("/" + std::string(200, 'x'), recorder);
  ASSERT_FALSE(server.ok());
  EXPECT_EQ(server.error().code(), ErrorCode::kPrecondition);
}

}  // namespace
}  // namespace blockmig

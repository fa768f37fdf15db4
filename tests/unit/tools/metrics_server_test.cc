// SPDX-License-Identifier: Apache-2.0
// The listener for scrapes, and clients that mean it no good. Waits end by an event, or by a test's
// patience, which is many times what a loaded machine takes.
#include "tools/control/metrics_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <future>

#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using Clock = std::chrono::steady_clock;

constexpr seconds kTestPatience{30};
constexpr const char* kScrape = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n";

class OnePage final : public ControlHandler {
 public:
  ControlResponse handle(const ControlRequest& request) override {
    ++asked;
    if (request.method != "GET" || request.path != kMetricsPath) return {200, "secret"};
    return {200, page, kMetricsContentType};
  }
  std::string page = "a_metric 1\n";
  std::atomic<int> asked = 0;
};

UniqueFd connect_to(std::uint16_t port, int receive_bytes = 0) {
  UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (receive_bytes > 0) {
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &receive_bytes, sizeof(receive_bytes));
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  return fd;
}

/// False once the other side has closed.
bool say(const UniqueFd& fd, const std::string& bytes) {
  return send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) >= 0;
}

/// Everything until the other side closes, or has been silent for the test's patience.
std::string hear(const UniqueFd& fd) {
  std::string answer;
  for (;;) {
    pollfd ready{fd.get(), POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(milliseconds(kTestPatience).count())) != 1) {
      ADD_FAILURE() << "the other side says nothing and does not close";
      return answer;
    }
    char buffer[4096];
    const ssize_t count = read(fd.get(), buffer, sizeof(buffer));
    if (count <= 0) return answer;
    answer.append(buffer, static_cast<std::size_t>(count));
  }
}

class MetricsServerTest : public testing::Test {
 protected:
  void start(const MetricsLimits& limits = {}) {
    auto server = MetricsServer::start("127.0.0.1", 0, page_, limits);
    ASSERT_TRUE(server.ok()) << server.error().message();
    server_ = *std::move(server);
  }
  std::uint16_t port() const { return server_->port(); }
  /// Sends raw bytes, reads until the other side closes.
  std::string talk(const std::string& bytes) const {
    const UniqueFd fd = connect_to(port());
    EXPECT_TRUE(say(fd, bytes));
    return hear(fd);
  }
  /// Stops the server; true if that ends although each of these connections is alive, and the
  /// first of them sends a byte now and then.
  bool stops_beside(const std::vector<UniqueFd>& clients) {
    std::future<void> stopped = std::async(std::launch::async, [this] { server_.reset(); });
    const auto until = Clock::now() + kTestPatience;
    while (Clock::now() < until) {
      if (stopped.wait_for(milliseconds(100)) == std::future_status::ready) return true;
      say(clients.front(), "A");
    }
    for (const UniqueFd& client : clients) shutdown(client.get(), SHUT_RDWR);
    return false;
  }

  OnePage page_;
  std::unique_ptr<MetricsServer> server_;
};

TEST_F(MetricsServerTest, AnswersScrapesAndNothingElse) {
  start();
  for (const char* request : {"GET /metrics HTTP/1.0\r\n\r\n", kScrape}) {
    const std::string answer = talk(request);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(answer, HasSubstr("text/plain; version=0.0.4"));
    EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 11\r\n"));
    EXPECT_THAT(answer, HasSubstr("\r\nConnection: close\r\n"));
    EXPECT_THAT(answer, EndsWith("\r\n\r\na_metric 1\n"));
  }
  EXPECT_EQ(page_.asked, 2);
  for (const char* request :
       {"GET /v1/status HTTP/1.0\r\n\r\n", "POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        "POST /v1/stop HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}", "GET / HTTP/1.0\r\n\r\n",
        "rubbish\r\n\r\n"}) {
    const std::string refused = talk(request);
    EXPECT_THAT(refused, StartsWith("HTTP/1.1 4")) << request;
    EXPECT_THAT(refused, Not(HasSubstr("secret"))) << request;
  }
  EXPECT_EQ(page_.asked, 2) << "nothing but scrapes may come through here";
}

TEST_F(MetricsServerTest, HeadHasNoBody) {
  start();
  const std::string answer = talk("HEAD /metrics HTTP/1.1\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr("\r\nContent-Length: 11\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(MetricsServerTest, RefusalsSayWhichKind) {
  start();
  EXPECT_THAT(talk("GET /other HTTP/1.1\r\n\r\n"), StartsWith("HTTP/1.1 404 "));
  const std::string method = talk("POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello");
  EXPECT_THAT(method, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(method, HasSubstr("\r\nAllow: GET, HEAD\r\n"));
  EXPECT_THAT(talk("GET /metrics\r\n\r\n"), StartsWith("HTTP/1.1 400 "));
}

TEST_F(MetricsServerTest, ARequestInPiecesIsOne) {
  start();
  const UniqueFd fd = connect_to(port());
  for (const char c : std::string(kScrape)) EXPECT_TRUE(say(fd, std::string(1, c)));
  EXPECT_THAT(hear(fd), EndsWith("a_metric 1\n"));
}

TEST_F(MetricsServerTest, ARequestThatDoesNotEndIsTooLarge) {
  start();
  const std::string line = "X: " + std::string(4000, 'y') + "\r\n";
  EXPECT_THAT(talk("GET /metrics HTTP/1.1\r\n" + line + line + line), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(talk(std::string(64 << 10, 'A')), StartsWith("HTTP/1.1 431 "));
  EXPECT_THAT(talk("GET /metrics HTTP/1.1\r\n" + line + "\r\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(MetricsServerTest, RangesAreNotServed) {
  start();
  std::string ranges = "Range: bytes=0-";
  for (int i = 0; i < 2000; ++i) ranges += ",0-";
  const std::string answer = talk("GET /metrics HTTP/1.1\r\n" + ranges + "\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, EndsWith("\r\n\r\na_metric 1\n"));
}

TEST_F(MetricsServerTest, TheDeadlineIsForAllOfARequest) {
  start({.deadline = milliseconds(300)});
  const UniqueFd silent = connect_to(port());
  const UniqueFd dripping = connect_to(port());
  const auto until = Clock::now() + kTestPatience;
  bool open = say(dripping, "GET /metrics HTTP/1.1\r\nX: ");
  while (open && Clock::now() < until) {
    std::this_thread::sleep_for(milliseconds(20));
    open = say(dripping, "A");
  }
  EXPECT_FALSE(open) << "each byte has bought it time";
  EXPECT_EQ(hear(silent), "");
}

TEST_F(MetricsServerTest, WhoDoesNotReadIsDropped) {
  page_.page = std::string(32 << 20, 'x');
  start({.deadline = milliseconds(300)});
  const UniqueFd fd = connect_to(port(), 4096);
  ASSERT_TRUE(say(fd, kScrape));
  pollfd gone{fd.get(), 0, 0};  // an end of both directions
  EXPECT_EQ(poll(&gone, 1, static_cast<int>(milliseconds(kTestPatience).count())), 1);
}

TEST_F(MetricsServerTest, ALargePageComesAsAWhole) {
  page_.page = std::string(8 << 20, 'x');
  start({.deadline = kTestPatience});
  const UniqueFd fd = connect_to(port(), 4096);
  ASSERT_TRUE(say(fd, kScrape));
  EXPECT_THAT(hear(fd), EndsWith("\r\n\r\n" + page_.page));
}

TEST_F(MetricsServerTest, OneConnectionTooManyClosesTheOldest) {
  start({.connections = 4, .deadline = 10 * kTestPatience});
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 4; ++i) silent.push_back(connect_to(port()));
  EXPECT_THAT(talk(kScrape), EndsWith("a_metric 1\n")) << "silent ones must not starve a scrape";
  EXPECT_EQ(hear(silent[0]), "");
  for (std::size_t i = 1; i < silent.size(); ++i) {
    EXPECT_TRUE(say(silent[i], kScrape));
    EXPECT_THAT(hear(silent[i]), EndsWith("a_metric 1\n")) << i;
  }
}

TEST_F(MetricsServerTest, SilentConnectionsDoNotStarveAScrape) {
  start({.deadline = 10 * kTestPatience});
  std::vector<UniqueFd> silent;
  for (int i = 0; i < 100; ++i) silent.push_back(connect_to(port()));
  EXPECT_THAT(talk(kScrape), EndsWith("a_metric 1\n"));
}

TEST_F(MetricsServerTest, StoppingWaitsForNoClient) {
  page_.page = std::string(32 << 20, 'x');
  start({.deadline = 10 * kTestPatience});
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 6; ++i) clients.push_back(connect_to(port(), 4096));
  say(clients[0], "GET /metrics HTTP/1.1\r\nX: ");
  say(clients[1], kScrape);  // and does not read
  say(clients[2], "GET /nothing HTTP/1.1\r\n\r\n");
  while (page_.asked == 0) std::this_thread::sleep_for(milliseconds(1));
  EXPECT_TRUE(stops_beside(clients)) << "it waits for what its clients do next";
}

TEST_F(MetricsServerTest, APortCanBeTakenAgainAtOnce) {
  start();
  const std::uint16_t before = port();
  const UniqueFd silent = connect_to(before);
  EXPECT_THAT(talk(kScrape), EndsWith("a_metric 1\n"));
  server_.reset();
  auto again = MetricsServer::start("127.0.0.1", before, page_);
  EXPECT_TRUE(again.ok()) << again.error().message();
}

TEST_F(MetricsServerTest, APortInUseIsAnErrorThatNamesIt) {
  start();
  const auto second = MetricsServer::start("127.0.0.1", port(), page_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code(), ErrorCode::kIo);
  EXPECT_THAT(second.error().message(), HasSubstr(std::to_string(port())));
}

}  // namespace
}  // namespace blockmig

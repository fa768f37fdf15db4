// SPDX-License-Identifier: Apache-2.0
// The page of metrics over HTTP: on the control socket and on a TCP port of its own.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>

#include "blockmig/io/unique_fd.h"
#include "tests/unit/tools/scratch.h"
#include "tools/control/control_client.h"
#include "tools/control/control_server.h"
#include "tools/control/json.h"
#include "tools/control/metrics_server.h"
#include "tools/daemon/daemon.h"

namespace blockmig {
namespace {

using testing::HasSubstr;
using testing::Not;

class OnePage final : public ControlHandler {
 public:
  ControlResponse handle(const ControlRequest& request) override {
    ++asked;
    if (request.method != "GET" || request.path != kMetricsPath) return {200, "secret"};
    return {200, "a_metric 1\n", kMetricsContentType};
  }
  std::atomic<int> asked = 0;
};

/// Sends raw bytes to a port of this machine, reads until the other side closes.
std::string talk(std::uint16_t port, const std::string& bytes) {
  const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return "no connection";
  }
  EXPECT_GE(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), 0);
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(fd.get(), buffer, sizeof(buffer))) > 0;) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  return answer;
}

TEST(MetricsServerTest, AnswersScrapesAndNothingElse) {
  OnePage page;
  auto server = MetricsServer::start("127.0.0.1", 0, page);
  ASSERT_TRUE(server.ok()) << server.error().message();
  const std::uint16_t port = (*server)->port();
  const std::string answer = talk(port, "GET /metrics HTTP/1.0\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("200"));
  EXPECT_THAT(answer, HasSubstr("text/plain; version=0.0.4"));
  EXPECT_THAT(answer, testing::EndsWith("a_metric 1\n"));
  EXPECT_EQ(page.asked, 1);
  for (const char* request :
       {"GET /v1/status HTTP/1.0\r\n\r\n", "POST /metrics HTTP/1.0\r\nContent-Length: 0\r\n\r\n",
        "POST /v1/stop HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}", "GET / HTTP/1.0\r\n\r\n",
        "rubbish\r\n\r\n"}) {
    const std::string refused = talk(port, request);
    EXPECT_THAT(refused, Not(HasSubstr("secret"))) << request;
    EXPECT_THAT(refused, Not(HasSubstr(" 200 "))) << request;
  }
  EXPECT_EQ(page.asked, 1) << "nothing but scrapes may come through here";
}

TEST(MetricsServerTest, APortInUseIsAnErrorThatNamesIt) {
  // The library shares ports between sockets that all ask for it; this one does not.
  const UniqueFd taken(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(taken.get(), generic, size), 0);
  ASSERT_EQ(listen(taken.get(), 1), 0);
  ASSERT_EQ(getsockname(taken.get(), generic, &size), 0);
  const std::uint16_t port = ntohs(address.sin_port);
  OnePage page;
  const auto server = MetricsServer::start("127.0.0.1", port, page);
  ASSERT_FALSE(server.ok());
  EXPECT_THAT(server.error().message(), HasSubstr(std::to_string(port)));
}

class DaemonMetricsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(state_);
    DaemonOptions options;
    options.state_dir = state_;
    auto daemon = Daemon::start(options, log_, [] {});
    ASSERT_TRUE(daemon.ok()) << daemon.error().message();
    daemon_ = *std::move(daemon);
  }
  void TearDown() override { static_cast<void>(daemon_->stop()); }

  Scratch scratch_;
  std::string state_ = scratch_ / "state";
  Log log_{LogForm::kSilent};
  std::unique_ptr<Daemon> daemon_;
};

TEST_F(DaemonMetricsTest, TheControlSocketHasThePage) {
  auto server = ControlServer::start(scratch_ / "control.sock", *daemon_);
  ASSERT_TRUE(server.ok());
  ServeRequest serve;
  serve.disk = "vm1";
  serve.source = "file://" + scratch_.image("a.img", 1 << 20);
  serve.bitmaps = {{"daily", kDefaultGranularityBytes}};
  ControlClient client(scratch_ / "control.sock");
  ASSERT_TRUE(client.handle({"POST", "/v1/disks", to_json(serve)}).ok());
  const ControlResponse page = client.handle({"GET", kMetricsPath, ""});
  ASSERT_TRUE(page.ok());
  EXPECT_THAT(page.body, HasSubstr(R"(blockmig_disk_size_bytes{disk="vm1"} 1048576)"));
  EXPECT_THAT(page.body, HasSubstr(R"(blockmig_disk_dirty_chunks{disk="vm1",bitmap="daily"} 0)"));
  EXPECT_THAT(page.body, HasSubstr("blockmig_metrics_stale 0"));
  EXPECT_THAT(page.body, HasSubstr("blockmig_journal_sync_duration_seconds_count 3\n"))
      << "who the owner is, the record of it, and how it is served";
  EXPECT_FALSE(client.handle({"POST", kMetricsPath, ""}).ok());
}

TEST_F(DaemonMetricsTest, TheStatusHasRatesKindsAndClients) {
  ServeRequest serve;
  serve.disk = "vm1";
  serve.source = "file://" + scratch_.image("a.img", 1 << 20);
  ASSERT_TRUE(daemon_->handle({"POST", "/v1/disks", to_json(serve)}).ok());
  const ControlResponse status = daemon_->handle({"GET", "/v1/status", ""});
  const Result<Overview> overview = overview_from_json(status.body);
  ASSERT_TRUE(overview.ok()) << overview.error().message();
  ASSERT_EQ(overview->disks.size(), 1u);
  EXPECT_EQ(overview->disks[0].ops.size(), 7u);
  EXPECT_EQ(overview->disks[0].rate, DiskRate{});
  EXPECT_TRUE(overview->clients.empty());
}

}  // namespace
}  // namespace blockmig

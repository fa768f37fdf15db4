// SPDX-License-Identifier: Apache-2.0
// What a daemon says of itself: the page of metrics on the control socket, and the status.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/tools/scratch.h"
#include "tools/control/control_client.h"
#include "tools/control/control_server.h"
#include "tools/control/json.h"
#include "tools/daemon/daemon.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

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
  EXPECT_THAT(page.body, HasSubstr("blockmig_journal_sync_duration_seconds_count 5\n"))
      << "who the owner is, the disk's incarnation, that it is stamped, its record, how it is "
         "served";
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

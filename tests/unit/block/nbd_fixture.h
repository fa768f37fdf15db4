// SPDX-License-Identifier: Apache-2.0
// What tests of NBD stores share: a loop, a folder, a server of somebody else, and the device on
// it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/block/nbd_device.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {

using OpenedDevice = Result<std::unique_ptr<BlockDevice>>;

class NbdStoreTest : public testing::TestWithParam<LoopKind> {
 protected:
  void SetUp() override {
    loop_ = make_test_loop(GetParam());
    if (!loop_) GTEST_SKIP() << "this host refuses this kind of loop";
  }
  void TearDown() override {
    if (device_) {
      EXPECT_TRUE(run_task(*loop_, device_->close()).ok());
    }
  }

  OpenedDevice open(const std::string& uri, const NbdDeviceOptions& options = {}) {
    return run_task(*loop_, open_nbd_device(*loop_, uri, options));
  }
  /// Serves with nbdkit and opens it.
  void serve(std::vector<std::string> arguments, const NbdDeviceOptions& options = {}) {
    server_ = NbdServerProcess::nbdkit(folder_, std::move(arguments));
    connect(options);
  }
  void connect(const NbdDeviceOptions& options = {}) {
    OpenedDevice opened = open(server_->uri(), options);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    sync_ = std::make_unique<SyncDevice>(*loop_, *device_);
  }

  TemporaryFolder folder_;
  std::unique_ptr<IoLoop> loop_;
  std::unique_ptr<NbdServerProcess> server_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
};

inline Task<void> store_status(Task<Status> task, std::optional<Status>& into) {
  const Status done = co_await task;
  into = done;
}

inline std::string loop_name(const testing::TestParamInfo<LoopKind>& param) {
  return param.param == LoopKind::kUring ? "uring" : "portable";
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// A target that cannot be opened anew, and does not say so.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Opening it anew takes until `let_go`.
class Unopenable final : public ForwardingDevice {
 public:
  Unopenable(std::shared_ptr<FaultDevice> device, Event& let_go)
      : ForwardingDevice(*device), device_(std::move(device)), let_go_(let_go) {}
  Task<Status> revive() override {
    co_await let_go_.wait();
    const Status revived = co_await device_->revive();
    co_return revived;
  }

 private:
  std::shared_ptr<FaultDevice> device_;
  Event& let_go_;
};

class UnopenableOpener final : public TargetOpener {
 public:
  UnopenableOpener(std::shared_ptr<FaultDevice> device, Event& let_go)
      : device_(std::move(device)), let_go_(let_go) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<Unopenable>(device_, let_go_);
    co_return opened;
  }
  Task<void> discard() override { co_return; }

 private:
  std::shared_ptr<FaultDevice> device_;
  Event& let_go_;
  std::string uri_ = "test:target";
};

class HangingRevival : public testing::Test {
 protected:
  HangingRevival() {
    rig.target->plan().bytes_per_second = kMiB;
    JobOptions options = options_for(Mode::kDbt);
    options.target_timeout = seconds(3);
    auto opener = std::make_unique<UnopenableOpener>(rig.target, let_go);
    id = *rig.board.start(rig.disk, std::move(opener), options);
    rig.advance(milliseconds(100));
    rig.target->disconnect();
    rig.target->reconnect();
  }

  Rig rig;
  Event let_go{rig.loop};
  std::string id;
};

TEST_F(HangingRevival, IsNamedAndTheJobGoesOnWhenItHasEnded) {
  rig.advance(seconds(20));
  const JobStatus held = *rig.board.status(id);
  EXPECT_EQ(held.state, JobState::kPaused);
  ASSERT_TRUE(held.error);
  EXPECT_THAT(held.error->message(), testing::HasSubstr("target"));
  EXPECT_THAT(held.error->message(), testing::HasSubstr("open"));
  let_go.set();
  EXPECT_EQ(rig.wait(id).state, JobState::kDone);
  EXPECT_TRUE(rig.equal());
}

TEST_F(HangingRevival, DoesNotHoldUpAnAbort_I8) {
  rig.advance(milliseconds(500));
  ASSERT_TRUE(rig.board.abort(id).ok());
  rig.advance(milliseconds(500));
  EXPECT_EQ(rig.board.status(id)->state, JobState::kAborted);
  let_go.set();
}

}  // namespace
}  // namespace blockmig

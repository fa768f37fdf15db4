// SPDX-License-Identifier: Apache-2.0
// What has to be done after the decision is nothing that a guest waits for.
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Its word to the old store that the disk has left waits for that store.
class HangingOpener final : public TargetOpener {
 public:
  HangingOpener(EventLoop& loop, std::shared_ptr<FaultDevice> device)
      : answered(loop), device_(std::move(device)) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<SharedDevice>(device_, false, closed_);
    co_return opened;
  }
  Task<void> discard() override { co_return; }
  Task<void> confirm_switch(bool) override {
    asked = true;
    co_await answered.wait();
  }

  bool asked = false;
  Event answered;

 private:
  std::shared_ptr<FaultDevice> device_;
  std::shared_ptr<bool> closed_ = std::make_shared<bool>(false);
  std::string uri_ = "test:target";
};

Task<void> write_once(Disk& disk, bool& written) {
  static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  const Status status = co_await disk.write(0, from, flags);
  EXPECT_TRUE(status.ok());
  written = true;
}

TEST(AfterTheDecision, ParkedWritersGoOnThoughTheOldStoreDoesNotAnswer) {
  Rig rig;
  auto opener = std::make_unique<HangingOpener>(rig.loop, rig.target);
  HangingOpener& hanging = *opener;
  TaskScope guest;
  bool written = false;
  const auto id = rig.board.start(rig.disk, std::move(opener), options_for(Mode::kCold));
  ASSERT_TRUE(id.ok());
  rig.target->plan().bytes_per_second = kMiB;
  for (int i = 0; i < 100 && !rig.disk.write_throttle().held(); ++i) rig.advance(milliseconds(1));
  ASSERT_TRUE(rig.disk.write_throttle().held());
  guest.spawn(write_once(rig.disk, written));
  for (int i = 0; i < 60 && !hanging.asked; ++i) {
    EXPECT_FALSE(written);
    rig.advance(milliseconds(500));
  }
  ASSERT_TRUE(hanging.asked);
  rig.advance(seconds(1));
  EXPECT_TRUE(written);
  EXPECT_FALSE(is_final(rig.board.status(*id)->state));
  hanging.answered.set();
  EXPECT_EQ(rig.wait(*id).state, JobState::kDone);
  rig.advance(seconds(1));
  EXPECT_FALSE(rig.disk.write_throttle().held());
}

}  // namespace
}  // namespace blockmig

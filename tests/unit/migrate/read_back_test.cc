// SPDX-License-Identifier: Apache-2.0
// `--verify full` beside stores that fail for a while: what is read back later is read back then.
#include <gtest/gtest.h>

#include <optional>
#include <tuple>
#include <utility>

#include "blockmig/block/forwarding_device.h"
#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Fails the next question for what it has, once told so.
class Hesitant final : public ForwardingDevice {
 public:
  Hesitant(std::shared_ptr<FaultDevice> device, std::optional<ErrorCode>& failure)
      : ForwardingDevice(*device), device_(std::move(device)), failure_(failure) {}
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    if (failure_) co_return Error(*std::exchange(failure_, std::nullopt), "block status");
    auto told = co_await device_->extents(offset, length);
    co_return std::move(told);
  }

 private:
  std::shared_ptr<FaultDevice> device_;
  std::optional<ErrorCode>& failure_;
};

class HesitantOpener final : public TestOpener {
 public:
  HesitantOpener(std::shared_ptr<FaultDevice> device, std::optional<ErrorCode>& failure)
      : TestOpener(device), device_(std::move(device)), failure_(failure) {}
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<Hesitant>(device_, failure_);
    co_return opened;
  }

 private:
  std::shared_ptr<FaultDevice> device_;
  std::optional<ErrorCode>& failure_;
};

class ReadBack : public testing::TestWithParam<Mode> {
 protected:
  /// A move that has copied everything, and is reading the target back.
  std::string start_and_copy() {
    JobOptions options = options_for(GetParam());
    options.verify = Verify::kFull;
    options.copy_depth = 1;
    options.target_timeout = seconds(2);
    rig_.target->plan().min_delay = rig_.target->plan().max_delay = milliseconds(20);
    const std::string id = rig_.start(options);
    while (rig_.board.status(id)->bytes_copied < Rig::kSize) rig_.advance(milliseconds(1));
    rig_.advance(milliseconds(5));
    return id;
  }
  void expect_moved(const std::string& id) {
    const JobStatus status = rig_.wait(id);
    EXPECT_EQ(status.state, JobState::kDone) << (status.error ? status.error->message() : "");
    EXPECT_TRUE(rig_.equal());
  }
  Rig rig_;
};

TEST_P(ReadBack, ATargetThatFallsSilentPausesTheJobWhichGoesOnWhenItAnswers) {
  const std::string id = start_and_copy();
  rig_.target->stall();
  rig_.advance(seconds(20));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kPaused);
  rig_.target->unstall();
  expect_moved(id);
}

TEST_P(ReadBack, AShortErrorOfTheSourceIsOutlasted) {
  const std::string id = start_and_copy();
  rig_.source->plan().read_error_ppm = 1'000'000;
  rig_.advance(milliseconds(150));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kRunning);
  rig_.source->plan().read_error_ppm = 0;
  expect_moved(id);
}

TEST_P(ReadBack, ALastingErrorOfTheSourceEndsTheJob_I11) {
  const std::string id = start_and_copy();
  rig_.source->plan().read_error_ppm = 1'000'000;
  const JobStatus status = rig_.wait(id);
  ASSERT_EQ(status.state, JobState::kFailed);
  EXPECT_NE(status.error->message().find("reading the source"), std::string::npos)
      << status.error->message();
  EXPECT_EQ(rig_.disk.epoch(), 1u);
}

TEST_P(ReadBack, ASilentSourceIsNotTheTargetsTrouble) {
  const std::string id = start_and_copy();
  rig_.source->stall();
  rig_.advance(seconds(20));
  EXPECT_EQ(rig_.board.status(id)->state, JobState::kRunning);
  rig_.source->unstall();
  expect_moved(id);
}

/// What strayed into a hole is found also where the question for it fails: `failure` is one that is
/// over when asked again, or says that the target cannot be asked.
class ReadBackOfHoles : public testing::TestWithParam<std::tuple<Mode, ErrorCode>> {};

TEST_P(ReadBackOfHoles, AreNotBelievedToBeHolesWhereTheTargetDoesNotSaySo_I13) {
  constexpr std::uint64_t kHole = kMiB;
  Rig rig;
  std::optional<ErrorCode> failure;
  const WriteFlags flags{};
  ASSERT_TRUE(run_task(rig.loop, rig.disk.trim(kHole, kMiB, flags)).ok());
  JobOptions options = options_for(std::get<Mode>(GetParam()));
  options.verify = Verify::kFull;
  rig.target->plan().min_delay = rig.target->plan().max_delay = milliseconds(20);
  auto opener = std::make_unique<HesitantOpener>(rig.target, failure);
  const auto id = rig.board.start(rig.disk, std::move(opener), options);
  ASSERT_TRUE(id.ok());
  while (rig.board.status(*id)->bytes_copied == 0) rig.advance(milliseconds(1));
  rig.target->preload(kHole + 4096, std::vector<std::byte>(512, std::byte{1}));
  failure = std::get<ErrorCode>(GetParam());
  const JobStatus status = rig.wait(*id);
  EXPECT_FALSE(failure);  // the question was asked
  ASSERT_EQ(status.state, JobState::kFailed);
  EXPECT_EQ(status.error->code(), ErrorCode::kMismatch) << status.error->message();
  EXPECT_EQ(rig.disk.epoch(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Modes, ReadBackOfHoles,
                         testing::Combine(testing::Values(Mode::kCold, Mode::kDbt, Mode::kMirror),
                                          testing::Values(ErrorCode::kIo,
                                                          ErrorCode::kNotSupported)));

INSTANTIATE_TEST_SUITE_P(Modes, ReadBack, testing::Values(Mode::kCold, Mode::kDbt, Mode::kMirror),
                         [](const auto& row) { return std::string(to_string(row.param)); });

}  // namespace
}  // namespace blockmig

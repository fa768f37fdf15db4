// SPDX-License-Identifier: Apache-2.0
// Holes of the source on a target that cannot say what it holds (trap 9).
#include <gtest/gtest.h>

#include "blockmig/migrate/hole_step.h"
#include "rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// What was asked of a device; `mute`: it cannot say what it has allocated.
class Watched final : public BlockDevice {
 public:
  struct Seen {
    std::uint64_t bytes_read = 0;
    std::uint64_t requests_to_zero = 0;
    std::uint64_t bytes_zeroed = 0;
    std::uint64_t bytes_written = 0;
  };
  Watched(std::shared_ptr<FaultDevice> device, Seen& seen, bool mute)
      : device_(std::move(device)), seen_(seen), mute_(mute) {}
  const DeviceInfo& info() const override { return device_->info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    seen_.bytes_read += into.size();
    return device_->read(offset, into);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    seen_.bytes_written += from.size();
    return device_->write(offset, from, flags);
  }
  Task<Status> flush() override { return device_->flush(); }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    return device_->trim(offset, length, flags);
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    ++seen_.requests_to_zero;
    seen_.bytes_zeroed += length;
    return device_->write_zeroes(offset, length, flags);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    if (mute_) return say_nothing(offset, length);
    return device_->extents(offset, length);
  }
  void abandon() override { device_->abandon(); }
  Task<Status> close() override { return device_->close(); }

 private:
  static Task<Result<std::vector<Extent>>> say_nothing(std::uint64_t offset, std::uint64_t length) {
    co_return std::vector<Extent>(1, Extent{offset, length, false, false});
  }
  std::shared_ptr<FaultDevice> device_;
  Seen& seen_;
  bool mute_;
};

class MuteOpener final : public TargetOpener {
 public:
  MuteOpener(std::shared_ptr<FaultDevice> device, Watched::Seen& seen)
      : device_(std::move(device)), seen_(seen) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened = std::make_unique<Watched>(device_, seen_, true);
    co_return opened;
  }
  Task<void> discard() override { co_return; }

 private:
  std::shared_ptr<FaultDevice> device_;
  Watched::Seen& seen_;
  std::string uri_ = "test:mute";
};

/// A sparse disk with a little data, and a poisoned target that cannot say what it holds.
class Holes : public testing::TestWithParam<Mode> {
 protected:
  static constexpr std::uint64_t kSize = 64 * kMiB + 777;
  static constexpr std::uint64_t kData = 20 * kMiB + 4096;  ///< not on a chunk's edge
  static constexpr std::uint64_t kDataBytes = 100'000;

  Holes()
      : source_(std::make_shared<FaultDevice>(loop_, random_, "source", kSize)),
        target_(std::make_shared<FaultDevice>(loop_, random_, "target", kSize)),
        journal_(make_memory_journal(loop_)),
        disk_(loop_, "vm1", std::make_unique<Watched>(source_, at_source_, false), "test:s", 1),
        board_(loop_, *journal_) {
    source_->preload(kData, std::vector<std::byte>(kDataBytes, std::byte{7}));
    target_->preload(0, std::vector<std::byte>(kSize, std::byte{0xA5}));
    target_->mutable_info().zero_initialised = false;
    source_->plan().max_delay = milliseconds(1);
    target_->plan().max_delay = milliseconds(1);
  }
  ~Holes() override {
    run_task(loop_, board_.stop());
    const Status closed = run_task(loop_, disk_.close());
    static_cast<void>(closed);
  }
  std::string start() {
    JobOptions options;
    options.mode = GetParam();
    return *board_.start(disk_, std::make_unique<MuteOpener>(target_, at_target_), options);
  }
  bool equal() const {
    std::vector<std::byte> a(kSize);
    std::vector<std::byte> b(kSize);
    source_->peek(0, a);
    target_->peek(0, b);
    return a == b;
  }

  Random random_{7};
  SimLoop loop_{random_};
  std::shared_ptr<FaultDevice> source_;
  std::shared_ptr<FaultDevice> target_;
  Watched::Seen at_source_;
  Watched::Seen at_target_;
  std::unique_ptr<Journal> journal_;
  Disk disk_;
  JobBoard board_;
};

TEST_P(Holes, AreZeroedInLargePiecesAndNotRead_Trap9) {
  const JobStatus job = *run_task(loop_, board_.wait(start()));
  ASSERT_EQ(job.state, JobState::kDone) << job.error->message();
  EXPECT_TRUE(equal());
  EXPECT_LE(at_source_.bytes_read, 2 * kMiB);
  EXPECT_LE(at_target_.bytes_written, 2 * kMiB);
  EXPECT_GE(at_target_.bytes_zeroed, kSize - 2 * kMiB);
  EXPECT_LE(at_target_.requests_to_zero, 20u);
  EXPECT_GE(job.bytes_zero, kSize - 2 * kMiB);
  EXPECT_EQ(job.remaining_bytes, 0u);
}

TEST_P(Holes, WhatTheGuestWritesIntoOneMeanwhileArrives_I6) {
  if (GetParam() == Mode::kCold) GTEST_SKIP() << "writers are parked";
  target_->plan().min_delay = target_->plan().max_delay = milliseconds(20);
  const std::string id = start();
  std::vector<std::byte> expected(kSize);
  source_->peek(0, expected);
  const std::vector<std::byte> fresh(5000, std::byte{3});
  for (int i = 0; i < 40; ++i) {
    const WriteFlags flags{};
    const auto offset = static_cast<std::uint64_t>(i) * 1'600'000;
    const ConstBytes from(fresh);
    ASSERT_TRUE(run_task(loop_, disk_.write(offset, from, flags)).ok());
    std::copy(fresh.begin(), fresh.end(), expected.begin() + static_cast<std::ptrdiff_t>(offset));
    run_task(loop_, sleep_for(loop_, milliseconds(3)));
  }
  const JobStatus job = *run_task(loop_, board_.wait(id));
  ASSERT_EQ(job.state, JobState::kDone) << job.error->message();
  // Some of it after the switchover: the target is the disk then.
  std::vector<std::byte> found(kSize);
  target_->peek(0, found);
  EXPECT_TRUE(found == expected);
  EXPECT_LE(at_source_.bytes_read, 16 * kMiB);
}

TEST_P(Holes, ATargetThatFailsToZeroThemIsAskedAgain_I6) {
  target_->plan().write_error_ppm = 200'000;
  const JobStatus job = *run_task(loop_, board_.wait(start()));
  ASSERT_EQ(job.state, JobState::kDone) << job.error->message();
  EXPECT_TRUE(equal());
}

INSTANTIATE_TEST_SUITE_P(Modes, Holes,
                         testing::Values(Mode::kCold, Mode::kDbt, Mode::kMirror, Mode::kHybrid,
                                         Mode::kAuto),
                         [](const auto& mode) { return std::string(to_string(mode.param)); });

TEST(HoleStep, GrowsWhileTheTargetAnswersAtOnceAndShrinksWhereItTakesItsTime) {
  HoleStep step;
  EXPECT_EQ(step.bytes(), HoleStep::kMinBytes);
  for (int i = 0; i < 20; ++i) step.answered(milliseconds(1), seconds(1));
  EXPECT_EQ(step.bytes(), HoleStep::kMaxBytes);
  step.answered(milliseconds(50), seconds(1));
  EXPECT_EQ(step.bytes(), HoleStep::kMaxBytes);
  step.answered(milliseconds(150), seconds(1));
  EXPECT_EQ(step.bytes(), HoleStep::kMaxBytes / 2);
  step.answered(milliseconds(30), milliseconds(25));  // a guest's writes wait behind it
  EXPECT_EQ(step.bytes(), HoleStep::kMaxBytes / 4);
  for (int i = 0; i < 20; ++i) step.answered(seconds(1), seconds(1));
  EXPECT_EQ(step.bytes(), HoleStep::kMinBytes);
}

}  // namespace
}  // namespace blockmig

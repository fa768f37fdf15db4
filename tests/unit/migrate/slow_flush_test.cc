// SPDX-License-Identifier: Apache-2.0
// A target whose every flush takes longer than --max-downtime, however little there is to flush: a
// disk, NFS, Ceph. Not the guest's doing: it is not slowed down for it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::Contains;
using testing::Field;
using testing::HasSubstr;

constexpr Duration kFlush = milliseconds(300);
/// It offers no flush.
constexpr Duration kNever = Duration::max();

class SlowFlusher final : public ForwardingDevice {
 public:
  SlowFlusher(EventLoop& loop, std::shared_ptr<FaultDevice> device, const Duration& takes)
      : ForwardingDevice(*device), loop_(loop), device_(std::move(device)), takes_(takes) {}
  Task<Status> flush() override {
    if (takes_ == kNever) co_return Error(ErrorCode::kNotSupported, "the server offers no flush");
    // As FaultDevice: what is written meanwhile is not covered.
    const Status flushed = co_await device_->flush();
    co_await sleep_for(loop_, takes_);
    co_return flushed;
  }
  Task<Status> close() override { return device_->close(); }

 private:
  EventLoop& loop_;
  std::shared_ptr<FaultDevice> device_;
  const Duration& takes_;
};

class SlowOpener final : public TargetOpener {
 public:
  SlowOpener(Rig& rig, const Duration& takes) : rig_(rig), takes_(takes) {}
  const std::string& uri() const override { return uri_; }
  Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t) override {
    std::unique_ptr<BlockDevice> opened =
        std::make_unique<SlowFlusher>(rig_.loop, rig_.target, takes_);
    co_return opened;
  }
  Task<void> discard() override { co_return; }

 private:
  Rig& rig_;
  const Duration& takes_;
  std::string uri_ = "test:target";
};

struct SlowFlushRig : Rig {
  SlowFlushRig() {
    for (const auto& store : {source, target}) {
      store->plan().min_delay = store->plan().max_delay = milliseconds(1);
    }
  }
  ~SlowFlushRig() { stop_guest(); }
  std::string begin(const JobOptions& options) {
    auto id = board.start(disk, std::make_unique<SlowOpener>(*this, flush_takes), options);
    return id.ok() ? *id : "refused: " + id.error().message();
  }
  JobStatus status(const std::string& id) { return *board.status(id); }
  /// Writes every 5 ms, all over the disk.
  void start_guest() { guest.spawn(write_often()); }
  void stop_guest() {
    stop = true;
    while (guest.running() > 0) advance(milliseconds(10));
  }
  Task<void> write_often() {
    static const std::vector<std::byte> bytes(4096, std::byte{0x5a});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    for (std::uint64_t i = 0; !stop; ++i) {
      const TimePoint begun = loop.now();
      const Status status = co_await disk.write(i * 7 % 1000 * 4096, from, flags);
      EXPECT_TRUE(status.ok());
      longest = std::max(longest, loop.now() - begun);
      co_await sleep_for(loop, milliseconds(5));
    }
  }

  Duration flush_takes = kFlush;
  TaskScope guest;
  bool stop = false;
  Duration longest{};
};

std::string name_of(const testing::TestParamInfo<Mode>& tested) {
  return std::string(to_string(tested.param));
}

class SlowFlush : public testing::TestWithParam<Mode> {};

/// What was flushed with the gate open, and not written since, needs no flush behind it.
TEST_P(SlowFlush, AQuietDiskIsMovedAllTheSame) {
  SlowFlushRig rig;
  const std::string id = rig.begin(options_for(GetParam()));
  rig.advance(seconds(20));
  const JobStatus status = rig.status(id);
  ASSERT_EQ(status.state, JobState::kDone) << status.verdict;
  EXPECT_TRUE(rig.equal());
  EXPECT_LE(status.stall_ms, 100.0);
  std::vector<std::byte> durable(Rig::kSize);
  std::vector<std::byte> wanted(Rig::kSize);
  rig.target->peek_durable(0, durable);
  rig.source->peek(0, wanted);
  const bool fetched = GetParam() == Mode::kPostcopy || GetParam() == Mode::kHybrid;
  EXPECT_TRUE(fetched || durable == wanted);
}

INSTANTIATE_TEST_SUITE_P(Modes, SlowFlush,
                         testing::Values(Mode::kCold, Mode::kDbt, Mode::kSnapshot, Mode::kMirror,
                                         Mode::kAuto, Mode::kPostcopy, Mode::kHybrid),
                         name_of);

class SlowFlushBusy : public testing::TestWithParam<Mode> {};

TEST_P(SlowFlushBusy, IsSaidAndTheGuestIsNotSlowedDownForIt) {
  SlowFlushRig rig;
  rig.start_guest();
  JobOptions options = options_for(GetParam());
  options.on_stall = OnStall::kThrottle;
  const std::string id = rig.begin(options);
  rig.advance(seconds(30));
  JobStatus status = rig.status(id);
  ASSERT_EQ(status.state, JobState::kRunning);
  EXPECT_THAT(status.verdict, HasSubstr("the target's flush takes 3"));
  EXPECT_THAT(status.verdict, HasSubstr("blockmig set vm1 max-downtime="));
  EXPECT_THAT(status.decisions, Contains(Field(&Decision::what, "no switchover yet")));
  EXPECT_EQ(status.throttle_bytes_per_second, 0u);
  EXPECT_EQ(status.switchovers_postponed, 0u) << "the gate was closed in vain";
  // A flush that becomes cheap is found out.
  rig.flush_takes = {};
  rig.advance(seconds(30));
  status = rig.status(id);
  EXPECT_EQ(status.state, JobState::kDone) << status.verdict;
  EXPECT_LE(rig.longest, options.mirror_deadline + options.max_downtime);
}

TEST_P(SlowFlushBusy, FailsWhereOnStallSaysSo) {
  SlowFlushRig rig;
  rig.start_guest();
  JobOptions options = options_for(GetParam());
  options.on_stall = OnStall::kFail;
  const std::string id = rig.begin(options);
  rig.advance(seconds(30));
  const JobStatus status = rig.status(id);
  ASSERT_EQ(status.state, JobState::kFailed) << status.verdict;
  EXPECT_EQ(status.error->code(), ErrorCode::kNotConverging);
  EXPECT_THAT(status.error->message(), HasSubstr("the target's flush takes 3"));
}

TEST_P(SlowFlushBusy, EndsWhenTheDowntimeIsRaised) {
  SlowFlushRig rig;
  rig.start_guest();
  const std::string id = rig.begin(options_for(GetParam()));
  rig.advance(seconds(10));
  ASSERT_EQ(rig.status(id).state, JobState::kRunning);
  JobChange change;
  change.max_downtime = seconds(1);
  ASSERT_TRUE(rig.board.change(id, change).ok());
  rig.advance(seconds(10));
  const JobStatus status = rig.status(id);
  EXPECT_EQ(status.state, JobState::kDone) << status.verdict;
  EXPECT_EQ(status.max_downtime_ms, 1000.0);
  EXPECT_LE(status.stall_ms, 1000.0);
}

INSTANTIATE_TEST_SUITE_P(Modes, SlowFlushBusy,
                         testing::Values(Mode::kDbt, Mode::kSnapshot, Mode::kMirror, Mode::kAuto),
                         name_of);

TEST(SlowFlushAndAGuest, EveryModeThatNeedsNoQuietDiskEnds) {
  for (const Mode mode : {Mode::kCold, Mode::kPostcopy, Mode::kHybrid}) {
    SlowFlushRig rig;
    rig.start_guest();
    const std::string id = rig.begin(options_for(mode));
    rig.advance(seconds(20));
    EXPECT_EQ(rig.status(id).state, JobState::kDone) << to_string(mode);
  }
}

TEST(NoFlush, IsRefusedBeforeAnythingIsCopied) {
  SlowFlushRig rig;
  rig.flush_takes = kNever;
  rig.target->mutable_info().zero_initialised = false;
  const JobStatus status = rig.wait(rig.begin(options_for(Mode::kMirror)));
  EXPECT_EQ(status.state, JobState::kFailed);
  ASSERT_TRUE(status.error);
  EXPECT_EQ(status.error->code(), ErrorCode::kNotSupported);
  EXPECT_THAT(status.error->message(), HasSubstr("offers no flush"));
  EXPECT_EQ(status.bytes_copied, 0u);
}

/// A source whose flushes take longer than the gate may stay closed: no instant is to be had, and
/// each try for one is a stall of the guest.
TEST(NoInstant, IsAnErrorAfterSomeTries) {
  SlowFlushRig rig;
  TaskScope flushers;
  bool stop = false;
  const auto flush_often = [](Rig& of, unsigned which, const bool& ended) -> Task<void> {
    Random random(which + 1);
    while (!ended) {
      const Status status = co_await of.disk.flush();
      EXPECT_TRUE(status.ok());
      const milliseconds pause(random.below(200));
      co_await sleep_for(of.loop, pause);
    }
  };
  rig.source->plan().flush_delay = milliseconds(250);
  for (unsigned i = 0; i < 30; ++i) flushers.spawn(flush_often(rig, i, stop));
  JobOptions options = options_for(Mode::kSnapshot);
  options.point_in_time = true;
  options.target_timeout = seconds(5);
  const std::string id = rig.begin(options);
  rig.advance(seconds(30));
  const JobStatus status = rig.status(id);
  stop = true;
  while (flushers.running() > 0) rig.advance(milliseconds(100));
  ASSERT_EQ(status.state, JobState::kFailed) << status.verdict;
  EXPECT_EQ(status.error->code(), ErrorCode::kNotConverging);
  EXPECT_THAT(status.error->message(), HasSubstr("no point in time could be begun in 5"));
  EXPECT_THAT(status.error->message(), HasSubstr("--max-downtime 100 ms"));
  EXPECT_EQ(status.generations_begun, 0u);
}

/// A source whose reads take longer than any fence: the gate never drains in time.
TEST(ColdInVain, LetsItsWritersGoAndFails) {
  SlowFlushRig rig;
  TaskScope reader;
  bool stop = false;
  const auto read_often = [](Rig& of, unsigned which, const bool& ended) -> Task<void> {
    std::vector<std::byte> bytes(4096);
    const MutableBytes into(bytes);
    Random random(which + 1);
    while (!ended) {
      const Status status = co_await of.disk.read(0, into);
      EXPECT_TRUE(status.ok());
      const milliseconds pause(random.below(200));
      co_await sleep_for(of.loop, pause);
    }
  };
  rig.source->plan().min_delay = rig.source->plan().max_delay = milliseconds(250);
  for (unsigned i = 0; i < 30; ++i) reader.spawn(read_often(rig, i, stop));
  JobOptions options = options_for(Mode::kCold);
  options.target_timeout = seconds(5);
  const std::string id = rig.begin(options);
  rig.advance(seconds(5));
  rig.start_guest();
  rig.advance(seconds(25));
  stop = true;
  while (reader.running() > 0) rig.advance(milliseconds(100));
  const JobStatus status = rig.status(id);
  ASSERT_EQ(status.state, JobState::kFailed) << status.verdict;
  EXPECT_THAT(status.error->message(), HasSubstr("writers have waited 5 s"));
  EXPECT_FALSE(rig.disk.write_throttle().held());
}

}  // namespace
}  // namespace blockmig

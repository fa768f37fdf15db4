// SPDX-License-Identifier: Apache-2.0
// The mirror's promises to the guest and to the copier, one write at a time.
#include "blockmig/migrate/mirror.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <list>
#include <memory>
#include <vector>

#include "tests/unit/migrate/rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
constexpr std::uint64_t kSize = 8 * 65536;

std::unique_ptr<DirtyBitmap> make_bitmap() {
  auto bitmap = DirtyBitmap::create(kSize, 65536);
  return std::move(*bitmap);
}

class MirrorTest : public testing::Test {
 protected:
  MirrorTest()
      : store_(loop_, random_, "store", kSize),
        target_(std::make_shared<FaultDevice>(loop_, random_, "target", kSize)),
        replica_(loop_, std::make_unique<SharedDevice>(target_)),
        sync_(loop_, make_bitmap(), make_bitmap(), false),
        mirror_(loop_, replica_, sync_, options_) {}
  ~MirrorTest() override {
    target_->unstall();
    run_task(loop_, replica_.drain());
  }
  Status write(std::uint64_t offset, std::size_t length, std::byte value = std::byte{7}) {
    buffer_.assign(length, value);
    const ConstBytes from(buffer_);
    const WriteFlags flags{};
    const TimePoint begun = loop_.now();
    MirrorVisit visit;
    const Status status = run_task(loop_, mirror_.write(store_, offset, from, flags, visit));
    took_ = loop_.now() - begun;
    return status;
  }
  static std::byte at(const FaultDevice& device, std::uint64_t offset) {
    std::byte byte[1];
    device.peek(offset, byte);
    return byte[0];
  }
  void advance(Duration time) { run_task(loop_, sleep_for(loop_, time)); }

  Random random_{11};
  SimLoop loop_{random_};
  JobOptions options_;
  FaultDevice store_;
  std::shared_ptr<FaultDevice> target_;
  Replica replica_;
  SyncState sync_;
  Mirror mirror_;
  std::vector<std::byte> buffer_;
  Duration took_{};
};

TEST_F(MirrorTest, AWriteIntoAnEqualChunkReachesBothSidesAndLeavesItClean) {
  ASSERT_TRUE(write(4096, 512).ok());
  EXPECT_EQ(at(store_, 4096), std::byte{7});
  EXPECT_EQ(at(*target_, 4096), std::byte{7});
  EXPECT_EQ(sync_.dirty->dirty_count(), 0u);
  EXPECT_TRUE(sync_.written->is_dirty(0)) << "the target is not zero there any more (trap 9)";
}

TEST_F(MirrorTest, AWriteIntoADirtyChunkReachesTheSourceOnly_Trap13) {
  sync_.dirty->mark(0, 1);
  ASSERT_TRUE(write(4096, 512).ok());
  EXPECT_EQ(at(store_, 4096), std::byte{7});
  EXPECT_EQ(at(*target_, 4096), std::byte{0});
  EXPECT_TRUE(sync_.dirty->is_dirty(0));
}

TEST_F(MirrorTest, AWriteAcrossADirtyChunkDoesNotDragTheCleanOneAlong) {
  sync_.dirty->mark(65536, 1);
  ASSERT_TRUE(write(65536 - 512, 1024).ok());
  EXPECT_EQ(at(*target_, 65535), std::byte{7});
  EXPECT_EQ(at(*target_, 65536), std::byte{0});
  EXPECT_FALSE(sync_.dirty->is_dirty(0));
  EXPECT_TRUE(sync_.dirty->is_dirty(1));
}

TEST_F(MirrorTest, AWriteIntoAChunkBeingCopiedIsMarked_Trap4) {
  ASSERT_TRUE(sync_.ledger.try_begin_copy(0, false));
  ASSERT_TRUE(write(0, 512).ok());
  EXPECT_EQ(at(*target_, 0), std::byte{0});
  EXPECT_TRUE(sync_.dirty->is_dirty(0));
  sync_.ledger.end_copy(0);
}

TEST_F(MirrorTest, AFrozenTargetCostsAWriteTheDeadlineAndKeepsItsRange_Trap15_I9_I10) {
  target_->stall();
  ASSERT_TRUE(write(0, 512).ok());
  EXPECT_EQ(took_, options_.mirror_deadline);
  EXPECT_TRUE(sync_.dirty->is_dirty(0));
  EXPECT_FALSE(sync_.ledger.try_begin_copy(0, false)) << "the late write may still land";
  target_->unstall();
  advance(milliseconds(1));
  EXPECT_TRUE(sync_.ledger.try_begin_copy(0, false));
  sync_.ledger.end_copy(0);
}

TEST_F(MirrorTest, AfterFourSilentDeadlinesNoWriteWaitsUntilTheTargetAnswersAgain_I10) {
  target_->stall();
  ASSERT_TRUE(write(0, 512).ok());
  for (std::uint64_t chunk = 1; chunk < 4; ++chunk) {
    ASSERT_TRUE(write(chunk * 65536, 512).ok());
    EXPECT_LE(took_, options_.mirror_deadline);
  }
  advance(options_.mirror_deadline);
  ASSERT_TRUE(write(5 * 65536, 512).ok());
  EXPECT_EQ(took_, Duration::zero());
  target_->unstall();
  advance(milliseconds(1));
  ASSERT_TRUE(write(6 * 65536, 512).ok());
  EXPECT_FALSE(sync_.dirty->is_dirty(6)) << "mirrored again";
}

TEST_F(MirrorTest, WhatWasSentDoesNotChangeWhenTheGuestReusesItsBuffer_Trap16) {
  target_->stall();
  ASSERT_TRUE(write(0, 512, std::byte{0x33}).ok());
  std::fill(buffer_.begin(), buffer_.end(), std::byte{0xDB});
  target_->unstall();
  advance(milliseconds(1));
  EXPECT_EQ(at(*target_, 0), std::byte{0x33});
}

TEST_F(MirrorTest, AFailedTargetWriteIsTrackedAndTheGuestDoesNotSeeIt_I8) {
  target_->plan().write_error_ppm = 1'000'000;
  EXPECT_TRUE(write(0, 512).ok());
  EXPECT_TRUE(sync_.dirty->is_dirty(0));
}

TEST_F(MirrorTest, AFailedSourceWriteIsTheGuestsErrorAndIsTracked_Trap5_I11) {
  store_.plan().write_error_ppm = 1'000'000;
  EXPECT_FALSE(write(0, 512).ok());
  EXPECT_TRUE(sync_.dirty->is_dirty(0));
}

TEST_F(MirrorTest, OverlappingWritesGoOneAfterTheOther_Trap14) {
  target_->plan().min_delay = target_->plan().max_delay = milliseconds(5);
  TaskScope guest;
  static const std::vector<std::byte> large(32768, std::byte{1});
  static const std::vector<std::byte> small(512, std::byte{2});
  const auto body = [](Mirror& mirror, BlockDevice& store, std::uint64_t offset,
                       const std::vector<std::byte>& bytes) -> Task<void> {
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    MirrorVisit visit;
    const Status status = co_await mirror.write(store, offset, from, flags, visit);
    EXPECT_TRUE(status.ok());
  };
  guest.spawn(body(mirror_, store_, 0, large));
  guest.spawn(body(mirror_, store_, 4096, small));
  advance(milliseconds(1));
  EXPECT_EQ(target_->in_flight(), 1u) << "the small one waits for the large one";
  advance(milliseconds(20));
  EXPECT_EQ(guest.running(), 0u);
  EXPECT_EQ(at(store_, 4096), std::byte{2});
  EXPECT_EQ(at(*target_, 4096), std::byte{2});
}

TEST_F(MirrorTest, ZeroesAreMirroredAndTrimIsTracked_Trap10) {
  ASSERT_TRUE(write(0, 65536).ok());
  const ZeroFlags zero{};
  MirrorVisit visit;
  ASSERT_TRUE(run_task(loop_, mirror_.write_zeroes(store_, 0, 4096, zero, visit)).ok());
  EXPECT_EQ(at(*target_, 0), std::byte{0});
  EXPECT_EQ(sync_.dirty->dirty_count(), 0u);
  const WriteFlags flags{};
  ASSERT_TRUE(run_task(loop_, mirror_.trim(store_, 65536, 65536, flags)).ok());
  EXPECT_TRUE(sync_.dirty->is_dirty(1));
}

TEST_F(MirrorTest, AFlushMakesBothSidesDurable_Trap17) {
  ASSERT_TRUE(write(0, 512).ok());
  ASSERT_TRUE(run_task(loop_, mirror_.flush(store_)).ok());
  std::byte byte[1];
  store_.peek_durable(0, byte);
  EXPECT_EQ(byte[0], std::byte{7});
  target_->peek_durable(0, byte);
  EXPECT_EQ(byte[0], std::byte{7});
}

TEST_F(MirrorTest, AFlushDoesNotWaitForAFrozenTarget_I10) {
  target_->stall();
  const TimePoint begun = loop_.now();
  EXPECT_TRUE(run_task(loop_, mirror_.flush(store_)).ok());
  EXPECT_LE(loop_.now() - begun, options_.mirror_deadline);
}

/// Writes that are under way at once, each with how long it took.
class MirrorGuest final {
 public:
  MirrorGuest(EventLoop& loop, Mirror& mirror, BlockDevice& store)
      : loop_(loop), mirror_(mirror), store_(store) {}
  void start(std::uint64_t offset) { scope_.spawn(write(offset, took.emplace_back())); }
  std::size_t running() const { return scope_.running(); }

  std::list<Duration> took;

 private:
  Task<void> write(std::uint64_t offset, Duration& into) {
    static const std::vector<std::byte> bytes(4096, std::byte{9});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const TimePoint begun = loop_.now();
    MirrorVisit visit;
    const Status status = co_await mirror_.write(store_, offset, from, flags, visit);
    EXPECT_TRUE(status.ok());
    into = loop_.now() - begun;
  }

  EventLoop& loop_;
  Mirror& mirror_;
  BlockDevice& store_;
  TaskScope scope_;
};

TEST_F(MirrorTest, ALiveButSlowTargetCostsNoWriteMoreThanItsDeadline_I10) {
  // 4 KiB take 40 ms, one after the other: of 16 at once, the target can answer one in time.
  target_->plan().bytes_per_second = 100 * kKiB;
  MirrorGuest guest(loop_, mirror_, store_);
  for (std::uint64_t i = 0; i < 16; ++i) guest.start(i % 8 * 65536 + i / 8 * 4096);
  advance(std::chrono::seconds(2));
  ASSERT_EQ(guest.running(), 0u);
  for (const Duration took : guest.took) EXPECT_LE(took, options_.mirror_deadline);
  EXPECT_LE(mirror_.stats().longest_wait, options_.mirror_deadline);
  EXPECT_GT(mirror_.stats().deadline_misses, 0u);
  // What was late is tracked: either side may be ahead, nothing is lost.
  for (std::uint64_t chunk = 0; chunk < 8; ++chunk) {
    const bool same = at(store_, chunk * 65536) == at(*target_, chunk * 65536) &&
                      at(store_, chunk * 65536 + 4096) == at(*target_, chunk * 65536 + 4096);
    EXPECT_TRUE(same || sync_.dirty->is_dirty(static_cast<std::uint32_t>(chunk))) << chunk;
  }
}

TEST_F(MirrorTest, ATargetThatMissesMostDeadlinesIsNotWaitedForUntilTheHoldIsOver) {
  target_->plan().min_delay = target_->plan().max_delay = 2 * options_.mirror_deadline;
  for (std::uint64_t i = 0; i < MirrorFallback::kFewestWrites; ++i) {
    sync_.dirty->clear(0, kSize);
    ASSERT_TRUE(write(i % 8 * 65536 + i / 8 * 4096, 512).ok());
    advance(2 * options_.mirror_deadline);
  }
  sync_.dirty->clear(0, kSize);
  EXPECT_TRUE(mirror_.tracking_only());
  ASSERT_TRUE(write(0, 512).ok());
  EXPECT_EQ(took_, Duration::zero());
  EXPECT_TRUE(sync_.dirty->is_dirty(0));
  target_->plan().min_delay = target_->plan().max_delay = Duration::zero();
  advance(MirrorFallback::kShortestHoldDeadlines * options_.mirror_deadline);
  sync_.dirty->clear(0, kSize);
  ASSERT_TRUE(write(0, 512).ok());
  EXPECT_FALSE(sync_.dirty->is_dirty(0)) << "mirrored again";
}

TEST_F(MirrorTest, PacedWritesIntoDirtyChunksWaitButNeverBeyondTheDeadline_I10) {
  sync_.dirty->mark(0, kSize);
  ASSERT_TRUE(write(0, 4096).ok());
  EXPECT_EQ(took_, Duration::zero()) << "into a dirty chunk: nothing to wait for";
  mirror_.pace(200 * kKiB);  // 4 KiB in 20 ms
  MirrorGuest guest(loop_, mirror_, store_);
  for (std::uint64_t i = 0; i < 8; ++i) guest.start(i * 65536);
  advance(std::chrono::seconds(1));
  ASSERT_EQ(guest.running(), 0u);
  EXPECT_EQ(guest.took.front(), Duration::zero());
  EXPECT_EQ(*std::next(guest.took.begin()), milliseconds(20));
  for (const Duration took : guest.took) EXPECT_LT(took, options_.mirror_deadline);
  EXPECT_GE(guest.took.back(), options_.mirror_deadline / 2);
  mirror_.pace(0);
  ASSERT_TRUE(write(0, 4096).ok());
  EXPECT_EQ(took_, Duration::zero());
}

/// A write that the switchover may turn away.
class Visitor final {
 public:
  Visitor(Mirror& mirror, BlockDevice& store) : mirror_(mirror), store_(store) {}
  void start(std::uint64_t offset) {
    done = false;
    scope_.spawn(write(offset));
  }

  MirrorVisit visit;
  bool done = false;

 private:
  Task<void> write(std::uint64_t offset) {
    static const std::vector<std::byte> bytes(65536, std::byte{9});
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status status = co_await mirror_.write(store_, offset, from, flags, visit);
    EXPECT_TRUE(status.ok());
    done = true;
  }

  Mirror& mirror_;
  BlockDevice& store_;
  TaskScope scope_;
};

TEST_F(MirrorTest, WhoWaitsForATurnWhenTheSwitchoverComesIsTurnedAwayUndone_I10) {
  target_->plan().bytes_per_second = kMiB;  // 64 KiB in 62.5 ms
  Visitor sent(mirror_, store_);
  Visitor waiting(mirror_, store_);
  sent.start(0);
  waiting.start(0);  // the same range: behind the first
  advance(milliseconds(20));
  EXPECT_FALSE(waiting.done);
  mirror_.turn_away(true);
  advance(milliseconds(1));
  ASSERT_TRUE(waiting.done);
  EXPECT_TRUE(waiting.visit.turned_away);
  EXPECT_GE(waiting.visit.waited, milliseconds(20));
  EXPECT_FALSE(sent.done) << "what was begun is ended";
  mirror_.turn_away(false);
  // What it has waited counts when it comes again: 30 ms are left.
  waiting.visit.turned_away = false;
  sync_.dirty->clear(0, kSize);
  waiting.start(0);
  advance(milliseconds(31));
  EXPECT_TRUE(waiting.done);
  EXPECT_FALSE(waiting.visit.turned_away);
  EXPECT_LE(mirror_.stats().longest_wait, options_.mirror_deadline);
  advance(std::chrono::seconds(1));
}

TEST_F(MirrorTest, APacedWriteIsTurnedAwayToo) {
  sync_.dirty->mark(0, kSize);
  mirror_.pace(100 * kKiB);
  Visitor first(mirror_, store_);
  Visitor paced(mirror_, store_);
  first.start(0);
  paced.start(65536);
  advance(milliseconds(1));
  EXPECT_FALSE(paced.done);
  mirror_.turn_away(true);
  advance(milliseconds(1));
  EXPECT_TRUE(paced.visit.turned_away);
  EXPECT_EQ(at(store_, 65536), std::byte{0});
  mirror_.turn_away(false);
}

TEST_F(MirrorTest, BeforeTheSwitchoverLittleIsUnderWay) {
  target_->plan().bytes_per_second = 8 * kMiB;  // 64 KiB in 7.8 ms
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(write(i * 65536, 65536).ok());
  Visitor sent(mirror_, store_);
  sent.start(0);
  advance(milliseconds(1));
  TaskScope scope;
  bool near = false;
  const auto approach = [](Mirror& mirror, TimePoint deadline, bool& result) -> Task<void> {
    result = co_await mirror.approach(milliseconds(1), deadline);
  };
  scope.spawn(approach(mirror_, loop_.now() + milliseconds(100), near));
  Visitor late(mirror_, store_);
  late.start(4 * 65536);
  advance(milliseconds(4));
  EXPECT_FALSE(near) << "64 KiB do not fit a millisecond";
  advance(milliseconds(20));
  EXPECT_TRUE(near);
  EXPECT_TRUE(sent.done);
  EXPECT_FALSE(late.done) << "nothing more is sent";
  mirror_.turn_away(false);
  advance(milliseconds(30));
  EXPECT_TRUE(late.done);
  EXPECT_FALSE(sync_.dirty->is_dirty(4));
}

TEST_F(MirrorTest, AnApproachGivesUpOnATargetThatDoesNotAnswer) {
  target_->stall();
  Visitor sent(mirror_, store_);
  sent.start(0);
  const TimePoint deadline = loop_.now() + milliseconds(20);
  EXPECT_FALSE(run_task(loop_, mirror_.approach(milliseconds(1), deadline)));
  EXPECT_EQ(loop_.now(), deadline);
  mirror_.turn_away(false);
  target_->unstall();
  advance(milliseconds(100));
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// What is at rest in a folder and shall stay there: `--hydrate never`.
#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

struct ReadThrough : HydratingRig {
  ReadThrough() { options.keep_reads = false; }
  static Task<void> heal_base_after(Duration time, EventLoop& loop, FaultDevice& base) {
    co_await sleep_for(loop, time);
    base.plan().read_error_ppm = 0;
    base.reconnect();
  }
  static Task<void> abandon_after(Duration time, EventLoop& loop, HydratingDevice& device) {
    co_await sleep_for(loop, time);
    device.abandon();
  }
  void join_later_events() {
    run_task(loop, [](TaskScope* all) -> Task<void> { co_await all->join(); }(&later));
  }
  TaskScope later;
};

TEST_F(ReadThrough, ReadsAreRightAndKeepNothing) {
  open(false);
  expect_content(0, kSize);
  expect_content(3 * kChunk - 100, 200);
  EXPECT_EQ(device->map().absent_chunks(), 33u);
  EXPECT_EQ(peek(*local), std::vector<std::byte>(kSize, std::byte{0xA5}));
}

TEST_F(ReadThrough, AReadAcrossPresentAndAbsentChunksTakesEachFromItsPlace) {
  open(false);
  ASSERT_TRUE(write(2 * kChunk, kChunk, 0x55).ok());
  expect_content(kChunk, 3 * kChunk);
  expect_content(0, kSize);
}

TEST_F(ReadThrough, APartOfAnAbsentChunkIsWrittenIntoTheWholeChunk) {
  open(false);
  ASSERT_TRUE(write(5 * kChunk + 100, 512, 0x66).ok());
  expect_content(5 * kChunk, kChunk);
  EXPECT_EQ(device->map().absent_chunks(), 32u);
  std::vector<std::byte> untouched(kSize);
  base->peek(0, untouched);
  EXPECT_NE(untouched[5 * kChunk + 100], std::byte{0x66}) << "the data at rest was written";
}

TEST_F(ReadThrough, ABaseThatFailsIsAnErrorAndNeverAGuess_I12) {
  open(false);
  base->plan().read_error_ppm = 1'000'000;
  EXPECT_EQ(read(7 * kChunk, 512).error().code(), ErrorCode::kIo);
  EXPECT_NE(stats().last_error, "");
  base->plan().read_error_ppm = 0;
  expect_content(7 * kChunk, 512);
}

TEST_F(ReadThrough, ABaseThatHangsCostsThePatience) {
  open(false);
  base->stall();
  const TimePoint begun = loop.now();
  EXPECT_EQ(read(7 * kChunk, 512).error().code(), ErrorCode::kIo);
  EXPECT_LE(loop.now() - begun, options.patience + std::chrono::seconds(1));
  base->unstall();
  expect_content(7 * kChunk, 512);
}

TEST_F(ReadThrough, ABaseThatRecoversWithinThePatienceIsNoError) {
  open(false);
  base->plan().read_error_ppm = 1'000'000;
  later.spawn(heal_base_after(std::chrono::seconds(3), loop, *base));
  const TimePoint begun = loop.now();
  expect_content(7 * kChunk, 512);
  EXPECT_GE(loop.now() - begun, std::chrono::seconds(3));
  EXPECT_LE(loop.now() - begun, options.patience);
  EXPECT_GT(stats().base_errors, 1U);
  EXPECT_EQ(device->map().absent_chunks(), 33U) << "what was read through is not kept";
  join_later_events();
}

TEST_F(ReadThrough, ABaseThatIsConnectedAgainWithinThePatienceIsNoError) {
  for (const bool writing : {false, true}) {
    open(false);
    run_task(loop, device->settle_base());
    base->disconnect();
    later.spawn(heal_base_after(std::chrono::seconds(2), loop, *base));
    if (writing) {
      EXPECT_TRUE(write(7 * kChunk + 512, 512, 0x66).ok()) << "nothing else asks the base here";
    }
    expect_content(7 * kChunk, 2048);
    EXPECT_EQ(device->trouble(), "");
    join_later_events();
    ASSERT_TRUE(close().ok());
  }
}

TEST_F(ReadThrough, WhoWaitsForTheBaseLeavesWithTheDisk) {
  options.patience = std::chrono::seconds(3600);
  open(false);
  base->plan().read_error_ppm = 1'000'000;
  later.spawn(abandon_after(std::chrono::seconds(2), loop, *device));
  const TimePoint begun = loop.now();
  EXPECT_FALSE(read(7 * kChunk, 512).ok());
  EXPECT_LE(loop.now() - begun, std::chrono::seconds(4));
  join_later_events();
}

/// No read of this range succeeds.
class RottenDevice final : public ForwardingDevice {
 public:
  RottenDevice(std::shared_ptr<FaultDevice> device, ByteRange rotten)
      : ForwardingDevice(*device), device_(std::move(device)), rotten_(rotten) {}
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    if (rotten_.overlaps({offset, into.size()})) co_return Error(ErrorCode::kMismatch, "rot");
    const Status status = co_await device_->read(offset, into);
    co_return status;
  }

 private:
  std::shared_ptr<FaultDevice> device_;
  ByteRange rotten_;
};

/// A read that the base fails, and in its midst a write of the whole chunk.
struct Overwritten : ReadThrough {
  struct Outcome {
    Status read = Error(ErrorCode::kBusy, "not over yet");
    std::vector<std::byte> seen;
  };
  static Task<void> read_into(HydratingDevice& device, ByteRange range, Outcome& outcome) {
    outcome.seen.resize(range.length);
    const MutableBytes into(outcome.seen);
    const Status status = co_await device.read(range.offset, into);
    outcome.read = status;
  }
  /// The chunk 7 is written when the read of `range` has met the base's failure.
  Outcome overwrite_during_read(ByteRange range) {
    Outcome outcome;
    later.spawn(read_into(*device, range, outcome));
    run_task(loop, sleep_for(loop, std::chrono::seconds(1)));
    EXPECT_FALSE(outcome.read.ok());
    EXPECT_TRUE(write(7 * kChunk, kChunk, 0x77).ok());
    join_later_events();
    return outcome;
  }
  void expect_written(const Outcome& outcome, ByteRange range) {
    ASSERT_TRUE(outcome.read.ok()) << outcome.read.error().message();
    const auto from = content.begin() + static_cast<long>(range.offset);
    EXPECT_TRUE(std::equal(outcome.seen.begin(), outcome.seen.end(), from));
  }
};

TEST_F(Overwritten, WhatAWriteFillsNeedsTheBaseNoMore) {
  open(false);
  base->plan().read_error_ppm = 1'000'000;
  const ByteRange range{7 * kChunk + 512, 4096};
  expect_written(overwrite_during_read(range), range);
}

TEST_F(Overwritten, TheBaseIsAskedOnlyForWhatIsStillAbsent) {
  open(false);
  device->attach_base(std::make_unique<RottenDevice>(base, ByteRange{7 * kChunk, kChunk}));
  const ByteRange range{6 * kChunk, 3 * kChunk};
  expect_written(overwrite_during_read(range), range);
}

TEST_F(Overwritten, ABaseThatHungIsNoErrorWhereNothingIsAbsentAnyMore) {
  open(false);
  base->stall();
  const ByteRange range{7 * kChunk, kChunk};
  expect_written(overwrite_during_read(range), range);
  base->unstall();
}

TEST_F(Overwritten, WhatTheNewStoreDidNotKeepIsReadThereOnceAWriteHasFilledIt) {
  options.keep_reads = true;
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  expect_content(3 * kChunk, 512);
  local->plan().write_error_ppm = 0;
  base->plan().read_error_ppm = 1'000'000;
  const ByteRange range{7 * kChunk + 512, 4096};
  expect_written(overwrite_during_read(range), range);
}

}  // namespace
}  // namespace blockmig

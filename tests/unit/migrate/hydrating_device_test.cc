// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/hydrating_device.h"

#include "tests/unit/migrate/hydrating_rig.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

using HydratingDeviceTest = HydratingRig;

Task<void> read_into(HydratingDevice& device, std::uint64_t offset, std::vector<std::byte>& bytes,
                     bool& done) {
  const MutableBytes into(bytes);
  const Status status = co_await device.read(offset, into);
  done = status.ok();
}

Task<void> write_and_tell(HydratingDevice& device, std::uint64_t offset,
                          const std::vector<std::byte>& bytes, Status& status) {
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  status = co_await device.write(offset, from, flags);
}

/// What comes after the first request the base answers at once, again and again.
Task<void> keep_base_busy(EventLoop& loop, HydratingDevice& device, FaultDevice& base,
                          const bool& over) {
  co_await sleep_for(loop, std::chrono::milliseconds(10));
  base.plan().slow_ppm = 0;
  std::vector<std::byte> bytes(512);
  const MutableBytes into(bytes);
  while (!over && device.map().next_absent(0)) {
    const std::uint64_t offset = *device.map().next_absent(0) * device.map().granularity_bytes();
    const Status read = co_await device.read(offset, into);
    EXPECT_TRUE(read.ok());
    co_await sleep_for(loop, std::chrono::milliseconds(300));
  }
}

TEST_F(HydratingDeviceTest, ReadsOfAbsentChunksAreTheBasesContent) {
  for (const bool reverse : {true, false}) {
    open(reverse);
    expect_content(0, 10);
    expect_content(3 * kChunk - 5, kChunk + 10);
    expect_content(kSize - 1000, 1000);
    EXPECT_EQ(device->map().absent_chunks(), 33U - 1 - 3 - 2);
    expect_content(0, kSize);
    EXPECT_TRUE(device->whole());
    EXPECT_EQ(peek(*local), content);
    ASSERT_TRUE(close().ok());
    local->fill(std::byte{0xA5});
  }
}

TEST_F(HydratingDeviceTest, WholeChunksNeedNoFetch) {
  open(false);
  base->plan().read_error_ppm = 1'000'000;
  ASSERT_TRUE(write(kChunk, 2 * kChunk, 7).ok());
  ASSERT_TRUE(zero(4 * kChunk, kChunk).ok());
  ASSERT_TRUE(run_task(loop, device->trim(6 * kChunk, kChunk, {})).ok());
  ASSERT_TRUE(zero(32 * kChunk, 777).ok()) << "the short chunk at the end";
  std::fill_n(content.begin() + 6 * kChunk, kChunk, std::byte{0});
  expect_content(kChunk, 2 * kChunk);
  expect_content(4 * kChunk, kChunk);
  expect_content(6 * kChunk, kChunk);
  expect_content(32 * kChunk, 777);
  EXPECT_EQ(stats().bytes_spared, 4 * kChunk + 777U);
  EXPECT_EQ(stats().base_errors, 0U);
}

TEST_F(HydratingDeviceTest, APartOfAnAbsentChunkKeepsTheRest) {
  for (const bool reverse : {true, false}) {
    open(reverse);
    ASSERT_TRUE(write(5 * kChunk + 512, 1024, 9).ok());
    // Over three chunks, the middle one whole.
    ASSERT_TRUE(write(8 * kChunk - 512, kChunk + 1024, 8).ok());
    EXPECT_TRUE(device->map().is_present(8));
    EXPECT_EQ(device->map().is_present(5), !reverse) << "with the mirror the base takes it alone";
    expect_content(0, kSize);
    if (reverse) {
      EXPECT_EQ(peek(*base), content) << "an exact copy of the disk";
    }
    ASSERT_TRUE(close().ok());
    base->preload(0, content);
    local->fill(std::byte{0xA5});
  }
}

TEST_F(HydratingDeviceTest, TheReverseMirrorKeepsTheBaseExact) {
  open(true, {{0, 16 * kChunk}});
  local->preload(0, ConstBytes(content).first(16 * kChunk));
  ASSERT_TRUE(write(100, 5000, 3).ok());
  ASSERT_TRUE(write(20 * kChunk + 7, 3 * kChunk, 4).ok());
  ASSERT_TRUE(zero(10 * kChunk + 512, 2 * kChunk).ok());
  ASSERT_TRUE(run_task(loop, device->trim(kChunk, kChunk + 512, {})).ok());
  std::fill_n(content.begin() + kChunk, kChunk + 512, std::byte{0});
  EXPECT_EQ(peek(*base), content);
  expect_content(0, kSize);
  EXPECT_TRUE(device->mirrors_back());
}

TEST_F(HydratingDeviceTest, APullNeverOverwritesANewerWrite_I12) {
  for (const bool reverse : {true, false}) {
    open(reverse);
    TaskScope scope;
    std::vector<std::byte> seen(kChunk);
    bool read_done = false;
    base->stall();
    scope.spawn(read_into(*device, 0, seen, read_done));
    const std::vector<std::byte> newer(reverse ? 512 : kChunk, std::byte{0x77});
    Status written = Error(ErrorCode::kTimedOut, "");
    scope.spawn(write_and_tell(*device, 0, newer, written));
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(50)));
    EXPECT_EQ(written.ok(), !reverse) << "a whole chunk does not wait for a frozen base";
    base->unstall();
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(500)));
    EXPECT_TRUE(written.ok() && read_done);
    std::copy(newer.begin(), newer.end(), content.begin());
    expect_content(0, kChunk);
    run_task(loop, [](TaskScope* all) -> Task<void> { co_await all->join(); }(&scope));
    ASSERT_TRUE(close().ok());
    for (std::size_t i = 0; i < kSize; ++i) content[i] = static_cast<std::byte>(1 + i % 251);
    base->preload(0, content);
    local->fill(std::byte{0xA5});
  }
}

TEST_F(HydratingDeviceTest, AFlushMakesDataAndPresenceDurable_I12) {
  open(false);
  ASSERT_TRUE(write(kChunk, kChunk, 1).ok());
  ASSERT_TRUE(write(3 * kChunk + 512, 512, 2).ok());
  ASSERT_TRUE(flush().ok());
  crash_and_reopen();
  EXPECT_TRUE(device->map().is_present(1));
  EXPECT_TRUE(device->map().is_present(3));
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, AFuaWriteIsDurableWithItsPresence_I12) {
  open(false);
  expect_content(2 * kChunk, kChunk);                               // pulled, not saved
  ASSERT_TRUE(write(kChunk, kChunk, 1, /*fua=*/true).ok());         // fills a chunk
  ASSERT_TRUE(write(2 * kChunk + 512, 512, 2, /*fua=*/true).ok());  // into a fresh one
  ASSERT_TRUE(write(5 * kChunk + 512, 512, 3, /*fua=*/true).ok());  // into an absent one
  crash_and_reopen();
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, WithTheMirrorWhatPresenceForgetsIsPulledAgain_I12) {
  open(true);
  expect_content(0, 8 * kChunk);
  ASSERT_TRUE(write(kChunk + 512, 512, 2).ok());
  ASSERT_TRUE(write(20 * kChunk + 512, 512, 3).ok());
  ASSERT_TRUE(flush().ok());
  crash_and_reopen();
  EXPECT_EQ(device->map().absent_chunks(), 33U) << "nothing was saved, nothing is lost";
  expect_content(0, kSize);
  ASSERT_TRUE(run_task(loop, device->save()).ok());
  crash_and_reopen();
  EXPECT_TRUE(device->whole());
}

TEST_F(HydratingDeviceTest, ABaseThatFailsEndsTheMirrorAndNothingElse) {
  open(true, {{0, 16 * kChunk}});
  local->preload(0, ConstBytes(content).first(16 * kChunk));
  base->plan().write_error_ppm = 1'000'000;
  ASSERT_TRUE(write(512, 512, 1).ok());
  EXPECT_FALSE(device->mirrors_back());
  ASSERT_TRUE(write(20 * kChunk, kChunk, 2).ok());
  ASSERT_TRUE(write(25 * kChunk + 512, 512, 3).ok()) << "reading the base still works";
  ASSERT_TRUE(flush().ok());
  crash_and_reopen();
  EXPECT_FALSE(device->record().reverse_mirror) << "durable before the flush was acknowledged";
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, AFrozenBaseHoldsAMirroredWriteNoLongerThanItsDeadline_I10) {
  open(true, {{0, 16 * kChunk}});
  local->preload(0, ConstBytes(content).first(16 * kChunk));
  base->stall();
  const TimePoint begun = loop.now();
  ASSERT_TRUE(write(512, 512, 1).ok());
  EXPECT_LE(loop.now() - begun, options.reverse_deadline + std::chrono::milliseconds(100));
  EXPECT_FALSE(device->mirrors_back());
  ASSERT_TRUE(write(512, 512, 2).ok());
  base->unstall();
  run_task(loop, sleep_for(loop, std::chrono::seconds(1)));
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, ABaseThatAnswersOthersHoldsAMirroredWriteNotMuchLonger_I10) {
  options.patience = std::chrono::seconds(30);
  open(true, {{0, 16 * kChunk}});
  local->preload(0, ConstBytes(content).first(16 * kChunk));
  base->plan().slow_ppm = 1'000'000;
  base->plan().slow_delay = std::chrono::seconds(20);
  bool over = false;
  TaskScope others;
  auto reads = keep_base_busy(loop, *device, *base, over);
  others.spawn(std::move(reads));
  const TimePoint begun = loop.now();
  ASSERT_TRUE(write(512, 512, 1).ok());
  over = true;
  EXPECT_LE(loop.now() - begun, 3 * options.reverse_deadline + std::chrono::milliseconds(100));
  EXPECT_FALSE(device->mirrors_back());
  run_task(loop, join_all(others));
  run_task(loop, sleep_for(loop, std::chrono::seconds(30)));
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, AbsentChunksOfAFrozenBaseStallAndThenFail) {
  open(false, {{0, kChunk}});
  local->preload(0, ConstBytes(content).first(kChunk));
  base->stall();
  const TimePoint begun = loop.now();
  const auto seen = read(5 * kChunk, 512);
  ASSERT_FALSE(seen.ok());
  EXPECT_EQ(seen.error().code(), ErrorCode::kIo);
  EXPECT_GE(loop.now() - begun, options.patience);
  expect_content(0, kChunk);
  EXPECT_FALSE(write(5 * kChunk + 512, 512, 1).ok());
  EXPECT_TRUE(write(6 * kChunk, kChunk, 1).ok());
  base->unstall();
  run_task(loop, sleep_for(loop, std::chrono::seconds(10)));
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, ABaseThatRecoversWithinThePatienceIsNoError) {
  open(false);
  base->plan().read_error_ppm = 700'000;
  expect_content(0, kSize);
  EXPECT_GT(stats().base_errors, 0U);
}

TEST_F(HydratingDeviceTest, AFlushThatTheBaseOwesIsAnError_I11) {
  open(true);
  ASSERT_TRUE(write(512, 512, 1).ok());  // the base alone has it
  base->plan().flush_error_ppm = 1'000'000;
  EXPECT_FALSE(flush().ok());
  EXPECT_FALSE(flush().ok());
}

TEST_F(HydratingDeviceTest, TheFirstFlushCoversWhatTheBaseHadBefore_I1) {
  open(false);
  std::vector<std::byte> bytes(512, std::byte{0x42});
  const ConstBytes from(bytes);
  const WriteFlags flags{};
  ASSERT_TRUE(run_task(loop, base->write(512, from, flags)).ok()) << "before the switchover";
  std::copy(bytes.begin(), bytes.end(), content.begin() + 512);
  ASSERT_TRUE(flush().ok());
  crash_and_reopen();
  expect_content(0, kChunk);
}

TEST_F(HydratingDeviceTest, DemandedComesWithItsNeighbours) {
  options.read_ahead_bytes = 4 * kChunk;
  open(false);
  expect_content(0, 512);
  run_task(loop, sleep_for(loop, std::chrono::milliseconds(100)));
  for (std::uint64_t chunk = 0; chunk < 6; ++chunk) {
    EXPECT_EQ(device->map().is_present(chunk), chunk < 5) << chunk;
  }
  EXPECT_EQ(stats().pulls[0], 1U);
  EXPECT_GE(stats().pulls[1], 1U);
}

TEST_F(HydratingDeviceTest, PullsInFlightAreBounded_I10) {
  options.window_bytes = 4 * kChunk;
  options.pull_bytes = kChunk;
  open(false);
  std::uint64_t cursor = 0;
  // Asks the base what of it is zero, and pulls meanwhile.
  static_cast<void>(device->push(cursor, kChunk));
  run_task(loop, sleep_for(loop, std::chrono::milliseconds(100)));
  base->stall();
  std::uint64_t started = 0;
  for (int i = 0; i < 100; ++i) started += device->push(cursor, 8 * kChunk);
  EXPECT_EQ(started, 4 * kChunk);
  EXPECT_EQ(base->in_flight(), 4U);
  base->unstall();
}

TEST_F(HydratingDeviceTest, ZerosOfTheBaseDoNotBecomeData) {
  const std::vector<std::byte> zeros(4 * kChunk);
  base->preload(4 * kChunk, zeros);
  std::copy(zeros.begin(), zeros.end(), content.begin() + 4 * kChunk);
  open(false);
  expect_content(0, kSize);
  EXPECT_EQ(stats().bytes_zero, 4 * kChunk);
}

TEST_F(HydratingDeviceTest, AWholeRunOfZerosIsPushedWithoutBeingRead) {
  const ByteRange hole{4 * kChunk, 20 * kChunk};
  options.pull_bytes = kChunk;
  make_hole(hole);
  open(false);
  push_until_whole();
  EXPECT_EQ(stats().bytes_zero, hole.length);
  // 13 chunks hold something; one by one the others would have been twenty more.
  EXPECT_LE(stats().pulls[static_cast<std::size_t>(PullKind::kPush)], 15U);
  EXPECT_EQ(peek(*local), content) << "the new store held something else there (trap 9)";
}

TEST_F(HydratingDeviceTest, ZerosNeverLandOnANewerWrite_I12) {
  for (const bool reverse : {false, true}) {
    const ByteRange hole{4 * kChunk, 20 * kChunk};
    options.pull_bytes = kChunk;
    make_hole(hole);
    open(reverse);
    std::uint64_t cursor = hole.offset;
    base->stall();
    static_cast<void>(device->push(cursor, kChunk));  // asks now, and is answered later
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(1)));
    base->unstall();
    ASSERT_TRUE(write(10 * kChunk, kChunk, 0x77).ok());
    ASSERT_TRUE(write(12 * kChunk + 512, 4096, 0x78).ok());
    push_until_whole();
    expect_content(0, kSize);
    EXPECT_EQ(peek(*local), content);
    ASSERT_TRUE(close().ok());
    local->fill(std::byte{0xA5});
  }
}

TEST_F(HydratingDeviceTest, ABaseThatCannotSayWhatIsZeroIsRead) {
  open(false);
  base->plan().read_error_ppm = 1'000'000;
  std::uint64_t cursor = 0;
  static_cast<void>(device->push(cursor, kChunk));
  run_task(loop, sleep_for(loop, std::chrono::milliseconds(1)));
  base->plan().read_error_ppm = 0;
  push_until_whole();
  expect_content(0, kSize);
}

TEST_F(HydratingDeviceTest, ReadBackFindsAStoreThatLoses) {
  options.read_back = true;
  options.patience = std::chrono::milliseconds(300);
  open(false);
  local->plan().lost_write_ppm = 1'000'000;
  EXPECT_FALSE(read(0, 512).ok()) << "what cannot be read back is not present";
  EXPECT_NE(stats().last_error.find("offset"), std::string::npos);
  EXPECT_GE(stats().mismatches, 1U);
  local->plan().lost_write_ppm = 0;
  expect_content(0, kSize);
}

/// The chunk that is zero was never written, and is not what the store holds there.
TEST_F(HydratingDeviceTest, AWriteThatStrayedOntoZerosIsWrittenOverByThem_I13) {
  make_hole({kChunk, kChunk});
  local->fill(std::byte{0});
  options.read_back = true;
  options.patience = std::chrono::milliseconds(300);
  known_written = *DirtyBitmap::create(kSize, kChunk);
  open(false);
  local->preload(kChunk + 4096, std::vector<std::byte>(512, std::byte{1}));
  expect_content(0, kSize);
  EXPECT_GE(stats().mismatches, 1U);
}

TEST_F(HydratingDeviceTest, ExtentsOfAbsentChunksAreData) {
  open(false, {{0, 2 * kChunk}});
  local->preload(0, std::vector<std::byte>(2 * kChunk));
  const auto extents = run_task(loop, device->extents(kChunk, 3 * kChunk));
  ASSERT_TRUE(extents.ok());
  EXPECT_EQ(extents->back().offset + extents->back().length, 2 * kChunk);
  const auto absent = run_task(loop, device->extents(2 * kChunk, kChunk));
  ASSERT_TRUE(absent.ok());
  EXPECT_EQ(*absent, (std::vector<Extent>{{2 * kChunk, kChunk, false, false}}));
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The end of the reverse mirror under a change that only the base would have had: it is made
// without the base, and the guest sees no error.
#include "breakable_journal.h"
#include "hydrating_rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class MirrorEnds : public HydratingRig {
 protected:
  /// As a base without room does: what it holds can be read, and nothing more be written.
  void open_with_full_base(std::vector<ByteRange> present = {}) {
    open(true, std::move(present));
    base->plan().write_error_ppm = 1'000'000;
  }
  Status trim(std::uint64_t offset, std::uint64_t length) {
    const WriteFlags flags{};
    return run_task(loop, device->trim(offset, length, flags));
  }
  static Task<void> write_one(HydratingDevice& device, std::uint64_t offset,
                              const std::vector<std::byte>& bytes, unsigned& failed) {
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status status = co_await device.write(offset, from, flags);
    if (!status.ok()) ++failed;
  }
};

TEST_F(MirrorEnds, AWriteIntoAnAbsentChunkIsMadeOnTheNewStore) {
  open_with_full_base();
  ASSERT_TRUE(write(5 * kChunk + 512, 4096, 9).ok());
  EXPECT_FALSE(device->mirrors_back());
  EXPECT_TRUE(device->map().is_present(5));
  expect_content(0, kSize);
  ASSERT_TRUE(flush().ok());
  EXPECT_FALSE(device->record().reverse_mirror);
  crash_and_reopen();
  expect_content(0, kSize);
}

TEST_F(MirrorEnds, AWriteAcrossWholeAndPartialChunksToo) {
  open_with_full_base();
  ASSERT_TRUE(write(8 * kChunk - 512, 2 * kChunk + 1024, 8).ok());
  EXPECT_EQ(device->map().absent_chunks(), 33U - 4);
  expect_content(0, kSize);
}

TEST_F(MirrorEnds, AFuaWriteIsDurableWhereItWasMade_I1) {
  open_with_full_base();
  ASSERT_TRUE(write(5 * kChunk + 512, 4096, 9, /*fua=*/true).ok());
  crash_and_reopen();
  EXPECT_TRUE(device->map().is_present(5));
  expect_content(0, kSize);
}

TEST_F(MirrorEnds, ZerosIntoAnAbsentChunkToo) {
  open_with_full_base();
  ASSERT_TRUE(zero(5 * kChunk + 512, 4096).ok());
  EXPECT_TRUE(device->map().is_present(5));
  expect_content(0, kSize);
}

TEST_F(MirrorEnds, ATrimThatTheBaseMayStillDoIsNoHintAnyMore_I2) {
  open_with_full_base();
  ASSERT_TRUE(trim(5 * kChunk + 512, 4096).ok());
  // Were the chunk left in the base, it would read as it was until the base gets there.
  std::fill_n(content.begin() + 5 * kChunk + 512, 4096, std::byte{0});
  EXPECT_TRUE(device->map().is_present(5));
  expect_content(5 * kChunk, kChunk);
  ASSERT_TRUE(trim(9 * kChunk + 512, 4096).ok());
  EXPECT_FALSE(device->map().is_present(9)) << "the next one is a hint: nothing is fetched for it";
}

TEST_F(MirrorEnds, SeveralWritesIntoOneChunkAllHappen) {
  open_with_full_base();
  TaskScope writers;
  unsigned failed = 0;
  std::vector<std::vector<std::byte>> bytes;
  for (std::uint8_t i = 0; i < 8; ++i) bytes.emplace_back(1024, std::byte{i});
  for (std::uint64_t i = 0; i < bytes.size(); ++i) {
    const std::uint64_t offset = 5 * kChunk + i * 2048;
    writers.spawn(write_one(*device, offset, bytes[i], failed));
    std::copy(bytes[i].begin(), bytes[i].end(), content.begin() + static_cast<long>(offset));
  }
  run_task(loop, [](TaskScope* all) -> Task<void> { co_await all->join(); }(&writers));
  EXPECT_EQ(failed, 0U);
  expect_content(0, kSize);
}

TEST_F(MirrorEnds, WhatIsMadeWithoutTheBaseUndoesNoNewerWrite_I2) {
  open_with_full_base({{0, kChunk}});
  local->preload(0, ConstBytes(content).first(kChunk));
  base->stall();
  TaskScope writers;
  unsigned failed = 0;
  const std::vector<std::byte> across(1024, std::byte{1});
  const std::vector<std::byte> present(512, std::byte{2});
  // Half of it is in a chunk that is present: done there, while the base is still waited for.
  writers.spawn(write_one(*device, kChunk - 512, across, failed));
  writers.spawn(write_one(*device, 0, present, failed));  // ends the mirror after its deadline
  run_task(loop, sleep_for(loop, seconds(2)));
  ASSERT_FALSE(device->mirrors_back());
  ASSERT_TRUE(write(kChunk - 512, 512, 3).ok());
  base->unstall();
  run_task(loop, [](TaskScope* all) -> Task<void> { co_await all->join(); }(&writers));
  EXPECT_EQ(failed, 0U);
  EXPECT_TRUE(device->map().is_present(1)) << "the base has failed it";
  std::copy(present.begin(), present.end(), content.begin());
  std::copy(across.begin() + 512, across.end(), content.begin() + kChunk);
  expect_content(0, kSize);
}

TEST_F(MirrorEnds, ABaseThatFailsReadsAsWellIsAnErrorAfterThePatience_I11) {
  open_with_full_base();
  base->plan().read_error_ppm = 1'000'000;
  const TimePoint begun = loop.now();
  EXPECT_EQ(write(5 * kChunk + 512, 4096, 9).error().code(), ErrorCode::kIo);
  EXPECT_GE(loop.now() - begun, options.patience - milliseconds(100));
  EXPECT_LE(loop.now() - begun, options.patience + seconds(1));
}

TEST_F(MirrorEnds, AFrozenBaseCostsThePatienceOnce_I10) {
  open(true);
  base->stall();
  const TimePoint begun = loop.now();
  EXPECT_EQ(write(5 * kChunk + 512, 4096, 9).error().code(), ErrorCode::kIo);
  EXPECT_LE(loop.now() - begun, options.patience + seconds(1));
  base->unstall();
}

TEST_F(MirrorEnds, AWriteThatTheBaseHoldsIsMadeOnTheNewStore_I10) {
  options.patience = seconds(60);
  open(true);
  base->plan().slow_ppm = 1'000'000;
  base->plan().slow_delay = 4 * options.patience;
  TaskScope writers;
  unsigned failed = 0;
  const std::vector<std::byte> held(512, std::byte{9});
  const TimePoint begun = loop.now();
  writers.spawn(write_one(*device, 5 * kChunk + 512, held, failed));
  run_task(loop, sleep_for(loop, milliseconds(1)));
  base->plan().slow_ppm = 0;

  // Neither its neighbours nor the background wait for it.
  std::uint64_t cursor = 0;
  while (device->push(cursor, options.pull_bytes) > 0) continue;
  ASSERT_TRUE(write(5 * kChunk + 4096, 512, 8).ok());
  ASSERT_TRUE(write(6 * kChunk, 512, 7).ok());
  run_task(loop, sleep_for(loop, milliseconds(100)));
  EXPECT_LT(loop.now() - begun, milliseconds(200));
  EXPECT_LE(device->map().absent_bytes(), kSize / 2);

  run_task(loop, [](TaskScope* all) -> Task<void> { co_await all->join(); }(&writers));
  EXPECT_EQ(failed, 0U);
  EXPECT_LE(loop.now() - begun, 5 * options.reverse_deadline) << "nobody else asks it anything";
  std::copy(held.begin(), held.end(), content.begin() + 5 * kChunk + 512);
  push_until_whole();
  expect_content(0, kSize);
  ASSERT_TRUE(flush().ok());
}

TEST_F(MirrorEnds, AWriteHeldWhileTheBaseIsAskedForZerosHoldsUpNoNeighbour_I10) {
  options.pull_bytes = kChunk;
  open(true);
  make_hole({0, 16 * kChunk});
  base->plan().min_delay = base->plan().max_delay = milliseconds(20);
  std::uint64_t cursor = 0;
  EXPECT_EQ(device->push(cursor, options.pull_bytes), 0U) << "the base is being asked";
  base->plan().slow_ppm = 1'000'000;
  base->plan().slow_delay = 4 * options.patience;
  TaskScope writers;
  unsigned failed = 0;
  const std::vector<std::byte> held(512, std::byte{9});
  writers.spawn(write_one(*device, 5 * kChunk + 512, held, failed));
  run_task(loop, sleep_for(loop, milliseconds(30)));  // it has answered, and does not again
  base->plan() = FaultPlan();
  const TimePoint begun = loop.now();
  ASSERT_TRUE(write(9 * kChunk, 512, 7).ok());
  EXPECT_LT(loop.now() - begun, milliseconds(100));
  push_until_whole();
  expect_content(0, 5 * kChunk);
  run_task(loop, [](TaskScope* all) -> Task<void> { co_await all->join(); }(&writers));
  EXPECT_EQ(failed, 0U);
}

TEST_F(MirrorEnds, ItsEndIsRecordedBeforeAWriteCountsWithoutIt_I1) {
  open_with_full_base({{0, kChunk}});
  local->preload(0, ConstBytes(content).first(kChunk));
  ASSERT_TRUE(write(0, 4096, 9).ok());
  const std::string disk = "vm1";
  const auto kept = run_task(loop, journal->load_hydration(disk));
  EXPECT_FALSE((*kept)->reverse_mirror) << "a restart would take the base for a copy of the disk";
}

TEST_F(MirrorEnds, WhereThatIsNotRecordedNothingIsWritten_I1) {
  auto breakable = std::make_unique<BreakableJournal>(loop);
  BreakableJournal& breaks = *breakable;
  journal = std::move(breakable);
  open_with_full_base({{0, 2 * kChunk}});
  local->preload(0, ConstBytes(content).first(2 * kChunk));
  breaks.break_down();
  JournalBatch batch;
  ASSERT_FALSE(run_task(loop, journal->commit(batch)).ok());
  EXPECT_FALSE(write(0, 4096, 9).ok());
  EXPECT_FALSE(device->mirrors_back());
  base->plan().write_error_ppm = 0;
  EXPECT_FALSE(write(kChunk, 4096, 8).ok()) << "later ones neither";
  const std::vector<std::byte> bytes(4096, std::byte{7});
  EXPECT_FALSE(device->write_now(kChunk, bytes)) << "nor on the spot";
  expect_content(8 * kChunk, kChunk);
}

TEST_F(MirrorEnds, ANewStoreThatFailsIsAnError_I11) {
  open_with_full_base();
  local->plan().write_error_ppm = 1'000'000;
  EXPECT_FALSE(write(8 * kChunk - 512, kChunk + 1024, 8).ok());
  EXPECT_FALSE(write(5 * kChunk + 512, 4096, 9).ok());
}

}  // namespace
}  // namespace blockmig

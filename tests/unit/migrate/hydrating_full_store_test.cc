// SPDX-License-Identifier: Apache-2.0
// A new store that does not keep what is fetched, as when it is full or frozen: the base has it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

class FullStore : public HydratingRig {
 protected:
  FullStore() { options.patience = std::chrono::seconds(30); }
};

TEST_F(FullStore, ReadersGetFromTheBaseWhatCannotBeKept_I8) {
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  const TimePoint begun = loop.now();
  expect_content(7 * kChunk + 100, 3 * kChunk);
  expect_content(20 * kChunk, 512);
  EXPECT_LT(loop.now() - begun, std::chrono::seconds(1)) << "nobody waits for the patience to end";
  EXPECT_EQ(device->map().absent_chunks(), 33U);
  EXPECT_THAT(device->trouble(), testing::HasSubstr("filling the new store at offset"));
}

TEST_F(FullStore, WhatIsReadIsKeptAgainWhenThereIsRoom) {
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  expect_content(7 * kChunk, 512);
  local->plan().write_error_ppm = 0;
  expect_content(7 * kChunk, 512);
  push_until_whole();
  EXPECT_EQ(device->trouble(), "");
  expect_content(0, kSize);
}

TEST_F(FullStore, ReadersDoNotWaitForAStoreThatRefusesOnTheSpot_I8) {
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  const TimePoint begun = loop.now();
  for (unsigned chunk = 0; chunk < 32; ++chunk) expect_content(chunk * kChunk, 512);
  EXPECT_LT(loop.now() - begun, std::chrono::milliseconds(50));
}

TEST_F(FullStore, TheBackgroundTriesOneChunkLessAndLessOften_I10) {
  options.pull_bytes = kChunk;
  open(false);
  local->plan().write_error_ppm = 1'000'000;
  std::uint64_t cursor = 0;
  std::uint64_t tried = 0;
  std::string said;
  const TimePoint begun = loop.now();
  while (loop.now() - begun < std::chrono::seconds(10)) {
    tried += device->push(cursor, 8 * kChunk);
    run_task(loop, sleep_for(loop, std::chrono::milliseconds(10)));
    if (said.empty()) said = device->trouble();
  }
  EXPECT_EQ(device->trouble(), said) << "one state, whichever chunk is refused";
  EXPECT_GE(tried, (8 + 10) * kChunk) << "once a second at least";
  EXPECT_LE(tried, (8 + 20) * kChunk);
  local->plan().write_error_ppm = 0;
  push_until_whole();
  EXPECT_EQ(device->trouble(), "");
  expect_content(0, kSize);
}

class FrozenStore : public HydratingRig {
 protected:
  FrozenStore() { options.patience = std::chrono::seconds(30); }
  ~FrozenStore() override { local->unstall(); }
  static Task<void> write_and_tell(HydratingDevice& disk, std::uint64_t offset,
                                   const std::vector<std::byte>& bytes, bool& written) {
    const ConstBytes from(bytes);
    const WriteFlags flags{};
    const Status status = co_await disk.write(offset, from, flags);
    written = status.ok();
  }
  void keep_in_mind(std::uint64_t offset, const std::vector<std::byte>& bytes) {
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<long>(offset));
  }
  /// After the store has answered again, as far as it was asked.
  void thaw() {
    local->unstall();
    run_task(loop, sleep_for(loop, std::chrono::seconds(1)));
  }
};

class FrozenStoreEitherWay : public FrozenStore, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(ReverseMirror, FrozenStoreEitherWay, testing::Bool());

TEST_P(FrozenStoreEitherWay, ReadersGetFromTheBaseWhatItDoesNotTake_I8) {
  open(GetParam());
  local->stall();
  const TimePoint begun = loop.now();
  expect_content(7 * kChunk + 100, 3 * kChunk);
  EXPECT_LT(loop.now() - begun, std::chrono::seconds(2));
  const TimePoint known = loop.now();
  for (unsigned chunk = 32; chunk > 0; --chunk) expect_content((chunk - 1) * kChunk, 512);
  EXPECT_LT(loop.now() - known, std::chrono::seconds(1)) << "once it is known, nobody waits";
  EXPECT_EQ(device->map().absent_chunks(), 33U);
  EXPECT_THAT(device->trouble(), testing::HasSubstr("the new store has not answered for"));
  thaw();
  EXPECT_EQ(device->trouble(), "");
  EXPECT_TRUE(device->map().all_present({7 * kChunk, 4 * kChunk})) << "it was on its way";
  push_until_whole();
  expect_content(0, kSize);
}

TEST_F(FrozenStore, ReadersGetFromTheBaseWhereThePullsInFlightLeaveNoRoom_I8) {
  options.window_bytes = options.pull_bytes = kChunk;
  open(false);
  local->stall();
  for (unsigned chunk = 0; chunk < 32; ++chunk) expect_content(chunk * kChunk, 512);
}

TEST_F(FrozenStore, WhatIsWrittenMeanwhileIsNotOverwrittenByTheLatePull_I12) {
  open(false);
  local->stall();
  expect_content(7 * kChunk, 512);
  const std::vector<std::byte> bytes(512, std::byte{0xEE});
  TaskScope scope;
  bool written = false;
  scope.spawn(write_and_tell(*device, 7 * kChunk + 512, bytes, written));
  expect_content(7 * kChunk, kChunk);
  EXPECT_FALSE(written) << "a write needs the new store";
  thaw();
  ASSERT_TRUE(written);
  keep_in_mind(7 * kChunk + 512, bytes);
  push_until_whole();
  expect_content(0, kSize);
}

TEST_F(FrozenStore, ReadersGetFromTheBaseWhatAWriteOrARunOfZerosHolds_I8) {
  make_hole({8 * kChunk, 8 * kChunk});
  open(false);
  local->stall();
  std::uint64_t cursor = 8 * kChunk;
  device->push(cursor, kChunk);
  const std::vector<std::byte> bytes(kChunk, std::byte{0xEE});
  TaskScope scope;
  bool written = false;
  scope.spawn(write_and_tell(*device, 3 * kChunk, bytes, written));
  expect_content(9 * kChunk, kChunk);
  expect_content(3 * kChunk, kChunk);
  thaw();
  ASSERT_TRUE(written);
  keep_in_mind(3 * kChunk, bytes);
  push_until_whole();
  expect_content(0, kSize);
}

}  // namespace
}  // namespace blockmig

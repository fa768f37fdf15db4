// SPDX-License-Identifier: Apache-2.0
// What is at rest in a folder and shall stay there: `--hydrate never`.
#include "tests/unit/migrate/hydrating_rig.h"

namespace blockmig {
namespace {

struct ReadThrough : HydratingRig {
  ReadThrough() { options.keep_reads = false; }
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

}  // namespace
}  // namespace blockmig

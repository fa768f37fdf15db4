// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/chunk_ledger.h"

#include <gtest/gtest.h>

#include <optional>

#include "blockmig/base/random.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig {
namespace {

constexpr std::uint32_t kChunk = 64 * 1024;

class ChunkLedgerTest : public testing::Test {
 protected:
  Random random_{1};
  SimLoop loop_{random_};
  ChunkLedger ledger_{loop_, kChunk};
};

TEST_F(ChunkLedgerTest, AChunkIsCopiedByOneAtATime) {
  EXPECT_TRUE(ledger_.try_begin_copy(3, false));
  EXPECT_FALSE(ledger_.try_begin_copy(3, false));
  ledger_.end_copy(3);
  EXPECT_TRUE(ledger_.try_begin_copy(3, false));
  ledger_.end_copy(3);
  EXPECT_TRUE(ledger_.idle());
}

TEST_F(ChunkLedgerTest, TheCopierKeepsOutOfAChunkWithAMirroredWrite_I9) {
  std::optional<RangeGuard> late(std::in_place, ledger_, ByteRange{kChunk - 512, 1024});
  EXPECT_FALSE(ledger_.try_begin_copy(0, false));
  EXPECT_FALSE(ledger_.try_begin_copy(1, false)) << "the write reaches into the next chunk";
  EXPECT_TRUE(ledger_.try_begin_copy(2, false));
  late.reset();
  EXPECT_TRUE(ledger_.try_begin_copy(0, false));
}

TEST_F(ChunkLedgerTest, OverlapsAreByByteNotByChunk_Trap14) {
  const RangeGuard guard(ledger_, ByteRange{4096, 4096});
  EXPECT_TRUE(ledger_.overlaps_mirrored({8191, 1}));
  EXPECT_TRUE(ledger_.overlaps_mirrored({0, 4097}));
  EXPECT_FALSE(ledger_.overlaps_mirrored({8192, 512}));
  EXPECT_FALSE(ledger_.overlaps_mirrored({0, 4096}));
}

TEST_F(ChunkLedgerTest, OnlyAnExclusiveCopyMakesWritesWait) {
  EXPECT_TRUE(ledger_.try_begin_copy(0, false));
  EXPECT_TRUE(ledger_.try_begin_copy(1, true));
  EXPECT_TRUE(ledger_.copying({0, 512}));
  EXPECT_FALSE(ledger_.copying_exclusively({0, 512}));
  EXPECT_TRUE(ledger_.copying_exclusively({kChunk - 1, 2}));
}

TEST_F(ChunkLedgerTest, ARunIsClaimedUpToWhereSomebodyIsAtWork) {
  const RangeGuard guard(ledger_, ByteRange{5 * kChunk, 512});
  EXPECT_EQ(ledger_.try_begin_run(2, 100), 3u);
  EXPECT_TRUE(ledger_.copying({4 * kChunk, 1}));
  EXPECT_FALSE(ledger_.copying({5 * kChunk, 1}));
  EXPECT_FALSE(ledger_.copying_exclusively({2 * kChunk, kChunk}));
  EXPECT_FALSE(ledger_.try_begin_copy(3, false));
  EXPECT_EQ(ledger_.try_begin_run(3, 1), 0u);
  EXPECT_EQ(ledger_.try_begin_run(5, 2), 0u);
  EXPECT_EQ(ledger_.try_begin_run(0, 10), 2u);
  EXPECT_EQ(ledger_.busy().size(), 6u);
  ledger_.end_run(2, 3);
  ledger_.end_run(0, 2);
  EXPECT_TRUE(ledger_.try_begin_copy(3, false));
  ledger_.end_copy(3);
}

TEST_F(ChunkLedgerTest, TheLastOf2ToThe32ChunksIsOneLikeTheOthers) {
  const std::uint64_t size = (std::uint64_t{1} << 32) * kChunk;
  const ByteRange end{size - kChunk - 512, kChunk + 512};
  {
    const RangeGuard guard(ledger_, end);
    EXPECT_FALSE(ledger_.try_begin_copy(UINT32_MAX, false));
    EXPECT_TRUE(ledger_.overlaps_mirrored({size - 1, 1}));
    EXPECT_FALSE(ledger_.copying_exclusively(end));
    EXPECT_EQ(ledger_.busy().size(), 2u);
  }
  EXPECT_EQ(ledger_.try_begin_run(UINT32_MAX, 1), 1u);
  EXPECT_TRUE(ledger_.copying(end));
  ledger_.end_run(UINT32_MAX, 1);
  EXPECT_TRUE(ledger_.try_begin_copy(UINT32_MAX, true));
  EXPECT_TRUE(ledger_.copying_exclusively(end));
  ledger_.end_copy(UINT32_MAX);
  EXPECT_TRUE(ledger_.idle());
}

}  // namespace
}  // namespace blockmig

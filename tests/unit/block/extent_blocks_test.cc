// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/extent_blocks.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

using Extents = std::vector<Extent>;
constexpr std::uint32_t kBlock = 4096;
constexpr ByteRange kAsked{kBlock, 16 * kBlock};

Extent data(std::uint64_t offset, std::uint64_t length) { return {offset, length, false, false}; }
Extent hole(std::uint64_t offset, std::uint64_t length) { return {offset, length, true, true}; }

TEST(ExtentBlocks, WholeBlocksStayAsTheyAre) {
  const Extents told{hole(kBlock, 3 * kBlock), data(4 * kBlock, kBlock)};
  EXPECT_EQ(in_whole_blocks(told, kAsked, kBlock), told);
  const Extents bytes{hole(kBlock, 5), data(kBlock + 5, 7)};
  EXPECT_EQ(in_whole_blocks(bytes, kAsked, 1), bytes);
}

TEST(ExtentBlocks, ABlockThatIsDataInPartIsData_I11) {
  const Extents told{hole(kBlock, kBlock + 1000), data(2 * kBlock + 1000, kBlock),
                     hole(3 * kBlock + 1000, 3 * kBlock - 1000)};
  EXPECT_EQ(
      in_whole_blocks(told, kAsked, kBlock),
      (Extents{hole(kBlock, kBlock), data(2 * kBlock, 2 * kBlock), hole(4 * kBlock, 2 * kBlock)}));
}

TEST(ExtentBlocks, SeveralInOneBlockCountTogether) {
  const Extents told{hole(kBlock, 512),
                     {kBlock + 512, 512, false, true},
                     hole(kBlock + 1024, 512),
                     {kBlock + 1536, 2560, true, true},
                     data(2 * kBlock, 2 * kBlock)};
  EXPECT_EQ(in_whole_blocks(told, kAsked, kBlock),
            (Extents{{kBlock, kBlock, false, true}, data(2 * kBlock, 2 * kBlock)}));
}

TEST(ExtentBlocks, AnEndWithinABlockIsAskedForAgain) {
  EXPECT_EQ(in_whole_blocks({hole(kBlock, 2 * kBlock + 7)}, kAsked, kBlock),
            (Extents{hole(kBlock, 2 * kBlock)}));
}

TEST(ExtentBlocks, LessThanABlockIsData) {
  EXPECT_EQ(in_whole_blocks({hole(kBlock, 1000)}, kAsked, kBlock), (Extents{data(kBlock, kBlock)}));
}

TEST(ExtentBlocks, MoreThanWasAskedForIsCut) {
  const Extents told{data(kBlock, kBlock), hole(2 * kBlock, 90 * kBlock), data(92 * kBlock, 1)};
  EXPECT_EQ(in_whole_blocks(told, kAsked, kBlock),
            (Extents{data(kBlock, kBlock), hole(2 * kBlock, 15 * kBlock)}));
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/zero_split.h"

#include <gtest/gtest.h>

#include "blockmig/base/random.h"

namespace blockmig {
namespace {

TEST(ZeroSplit, WholeBlocksInTheMiddle) {
  const ZeroSplit split = split_for_zeroing({100, 10'000}, 100'000, 4096, true);
  EXPECT_EQ(split.head, (ByteRange{100, 3996}));
  EXPECT_EQ(split.middle, (ByteRange{4096, 4096}));
  EXPECT_EQ(split.tail, (ByteRange{8192, 1908}));
}

TEST(ZeroSplit, ARangeInsideOneBlockIsAllHead) {
  const ZeroSplit split = split_for_zeroing({4100, 4000}, 100'000, 4096, true);
  EXPECT_EQ(split.head, (ByteRange{4100, 4000}));
  EXPECT_TRUE(split.middle.empty());
  EXPECT_TRUE(split.tail.empty());
}

TEST(ZeroSplit, TheEndOfAFileCountsAsABlocksEnd_Trap7) {
  const ZeroSplit split = split_for_zeroing({0, 5000}, 5000, 4096, true);
  EXPECT_EQ(split.middle, (ByteRange{0, 8192}));
  EXPECT_TRUE(split.tail.empty());
  const ZeroSplit device = split_for_zeroing({0, 5000}, 5000, 4096, false);
  EXPECT_EQ(device.middle, (ByteRange{0, 4096}));
  EXPECT_EQ(device.tail, (ByteRange{4096, 904}));
}

TEST(ZeroSplit, ATailThatStartsInTheLastBlockIsWritten) {
  const ZeroSplit split = split_for_zeroing({4999, 1}, 5000, 4096, true);
  EXPECT_EQ(split.head, (ByteRange{4999, 1}));
  EXPECT_TRUE(split.middle.empty());
}

TEST(ZeroSplit, PartsCoverTheRangeExactlyAndTouchNothingElse) {
  Random random(7);
  for (int i = 0; i < 20'000; ++i) {
    const std::uint64_t size = 1 + random.below(40'000);
    const std::uint64_t offset = random.below(size);
    const ByteRange range{offset, 1 + random.below(size - offset)};
    const bool file = random.chance(1, 2);
    const ZeroSplit split = split_for_zeroing(range, size, 4096, file);
    std::uint64_t at = range.offset;
    for (const ByteRange& part : {split.head, split.middle, split.tail}) {
      if (part.empty()) continue;
      ASSERT_EQ(part.offset, at);
      at = part.end();
    }
    ASSERT_EQ(split.middle.offset % 4096, 0u);
    ASSERT_EQ(split.middle.length % 4096, 0u);
    if (at != range.end()) {
      ASSERT_TRUE(file && range.end() == size);
      ASSERT_EQ(at, align_up(size, 4096));
    }
  }
}

}  // namespace
}  // namespace blockmig

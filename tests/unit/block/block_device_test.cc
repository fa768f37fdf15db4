// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/block_device.h"

#include <gtest/gtest.h>

#include <limits>

namespace blockmig {
namespace {

DeviceInfo sample() {
  DeviceInfo info;
  info.name = "/srv/a.img";
  info.size_bytes = 10'000;
  return info;
}

TEST(CheckRange, AcceptsWhatFits) {
  EXPECT_TRUE(check_range(sample(), 0, 10'000, true).ok());
  EXPECT_TRUE(check_range(sample(), 10'000, 0, false).ok());
}

TEST(CheckRange, BeyondTheEndIsNoSpaceForWritesAndInvalidForReads) {
  const Status write = check_range(sample(), 9'999, 2, true);
  ASSERT_FALSE(write.ok());
  EXPECT_EQ(write.error().code(), ErrorCode::kNoSpace);
  EXPECT_NE(write.error().message().find("/srv/a.img"), std::string::npos);
  const Status read = check_range(sample(), 9'999, 2, false);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code(), ErrorCode::kInvalid);
}

TEST(CheckRange, DoesNotWrapAround) {
  EXPECT_FALSE(check_range(sample(), std::numeric_limits<std::uint64_t>::max(), 2, false).ok());
  EXPECT_FALSE(check_range(sample(), 2, std::numeric_limits<std::uint64_t>::max(), false).ok());
}

TEST(CheckRange, HoldsTheDevicesAlignment) {
  DeviceInfo info = sample();
  info.size_bytes = 8192;
  info.min_io_bytes = 512;
  EXPECT_TRUE(check_range(info, 512, 1024, true).ok());
  const Status offset = check_range(info, 1, 512, true);
  ASSERT_FALSE(offset.ok());
  EXPECT_EQ(offset.error().code(), ErrorCode::kInvalid);
  EXPECT_FALSE(check_range(info, 512, 100, true).ok());
}

TEST(AssertRange, StopsTheProcessOnOurOwnMistake) {
  EXPECT_DEATH(assert_range(sample(), 9'999, 2), "fits");
}

TEST(AppendExtent, MergesNeighboursOfOneStatusOnly) {
  std::vector<Extent> extents;
  append_extent(extents, {0, 10, true, true});
  append_extent(extents, {10, 5, true, true});
  append_extent(extents, {15, 5, false, true});
  append_extent(extents, {20, 5, false, false});
  append_extent(extents, {30, 5, false, false});
  const std::vector<Extent> expected = {
      {0, 15, true, true}, {15, 5, false, true}, {20, 5, false, false}, {30, 5, false, false}};
  EXPECT_EQ(extents, expected);
}

}  // namespace
}  // namespace blockmig

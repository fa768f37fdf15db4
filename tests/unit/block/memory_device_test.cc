// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/memory_device.h"

#include <gtest/gtest.h>

#include "blockmig/base/random.h"
#include "blockmig/io/sim_loop.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kPage = MemoryDevice::kPageBytes;

TEST(MemoryDevice, UnwrittenPagesAreHolesThatReadAsZeros) {
  MemoryDevice device("m", 3 * kPage + 5);
  device.poke(kPage + 7, filled(10, 0xAB));
  const std::vector<Extent> expected = {
      {0, kPage, true, true}, {kPage, kPage, false, false}, {2 * kPage, kPage + 5, true, true}};
  EXPECT_EQ(device.peek_extents(0, 3 * kPage + 5), expected);
  Bytes read(12);
  device.peek(kPage + 6, read);
  EXPECT_EQ(read.front(), std::byte{0});
  EXPECT_EQ(read[1], std::byte{0xAB});
  EXPECT_EQ(read.back(), std::byte{0});
}

TEST(MemoryDevice, ExtentsAreCutToTheAskedRange) {
  MemoryDevice device("m", 4 * kPage);
  device.poke(kPage, filled(1, 1));
  const std::vector<Extent> expected = {{100, kPage - 100, true, true}, {kPage, 50, false, false}};
  EXPECT_EQ(device.peek_extents(100, kPage - 50), expected);
}

TEST(MemoryDevice, ExtentsStopAtTheirLimit) {
  const std::uint64_t pages = 2 * BlockDevice::kMaxExtents + 10;
  MemoryDevice device("m", pages * kPage);
  for (std::uint64_t i = 0; i < pages; i += 2) device.poke(i * kPage, filled(1, 1));
  const auto extents = device.peek_extents(0, pages * kPage);
  EXPECT_EQ(extents.size(), BlockDevice::kMaxExtents);
  EXPECT_EQ(extents.back().offset + extents.back().length, BlockDevice::kMaxExtents * kPage);
}

TEST(MemoryDevice, ZeroingDeallocatesOnlyWholePages) {
  MemoryDevice device("m", 4 * kPage);
  device.fill(std::byte{0xA5});
  device.poke_zeroes(10, 2 * kPage, true);
  EXPECT_EQ(device.allocated_bytes(), 3 * kPage);
  device.poke_zeroes(0, 4 * kPage, false);
  EXPECT_EQ(device.allocated_bytes(), 4 * kPage);
  Bytes all(4 * kPage);
  device.peek(0, all);
  EXPECT_TRUE(is_all_zero(all));
}

TEST(MemoryDevice, ZeroingAHugeHoleTakesNoTimePerPage) {
  MemoryDevice device("m", std::uint64_t{1} << 60);
  device.poke(std::uint64_t{1} << 50, filled(10, 1));
  device.poke_zeroes(3, (std::uint64_t{1} << 60) - 3, true);
  EXPECT_EQ(device.allocated_bytes(), 0u);
  EXPECT_EQ(device.peek_extents(0, std::uint64_t{1} << 60).size(), 1u);
}

TEST(MemoryDevice, MissingBytesCountsUnallocatedPages) {
  MemoryDevice device("m", 4 * kPage);
  device.poke(kPage, filled(1, 1));
  EXPECT_EQ(device.missing_bytes(0, 4 * kPage), 3 * kPage);
  EXPECT_EQ(device.missing_bytes(kPage, 10), 0u);
  EXPECT_EQ(device.missing_bytes(kPage - 1, 2), kPage);
  EXPECT_EQ(device.missing_bytes(0, 0), 0u);
}

TEST(MemoryDevice, TrimLeavesPartsOfPagesAlone) {
  Random random(1);
  SimLoop loop(random);
  MemoryDevice device("m", 2 * kPage + 10);
  device.fill(std::byte{7});
  SyncDevice sync(loop, device);
  ASSERT_TRUE(sync.trim(5, 2 * kPage + 5).ok());
  Bytes all(2 * kPage + 10);
  device.peek(0, all);
  EXPECT_EQ(all[kPage - 1], std::byte{7});
  EXPECT_TRUE(is_all_zero(ConstBytes(all).subspan(kPage)));
}

}  // namespace
}  // namespace blockmig

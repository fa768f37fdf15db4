// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/bounce_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>

namespace blockmig {
namespace {

bool is_aligned(const std::byte* data) {
  return reinterpret_cast<std::uintptr_t>(data) % AlignedBuffer::kAlignment == 0;
}

TEST(BouncePool, LendsAlignedMemoryOfAtLeastTheSize) {
  BouncePool pool;
  for (const std::size_t size :
       {std::size_t{1}, 4 * kKiB, 4 * kKiB + 1, 64 * kKiB, 128 * kKiB, 128 * kKiB + 512, kMiB}) {
    BouncePool::Lent buffer = pool.lend(size);
    EXPECT_GE(buffer.bytes().size(), size);
    EXPECT_TRUE(is_aligned(buffer.bytes().data()));
    std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{7});
  }
}

TEST(BouncePool, GivesTheSameMemoryAgainOnlyAfterItCameBack) {
  BouncePool pool;
  const std::byte* first = nullptr;
  {
    BouncePool::Lent one = pool.lend(4 * kKiB);
    BouncePool::Lent other = pool.lend(4 * kKiB);
    EXPECT_NE(one.bytes().data(), other.bytes().data());
    first = one.bytes().data();
  }
  BouncePool::Lent again = pool.lend(3 * kKiB);
  EXPECT_EQ(again.bytes().data(), first);
  BouncePool::Lent larger = pool.lend(5 * kKiB);
  EXPECT_EQ(larger.bytes().size(), 8 * kKiB);
}

TEST(BouncePool, KeepsTwoMebibytesAtMostAndNothingLarge) {
  BouncePool pool;
  {
    std::deque<BouncePool::Lent> all;
    for (int i = 0; i < 40; ++i) all.emplace_back(pool, AlignedBuffer(128 * kKiB));
    all.emplace_back(pool, AlignedBuffer(kMiB));
    all.emplace_back(pool, AlignedBuffer(4 * kKiB));
  }
  EXPECT_EQ(pool.kept_bytes(), 2 * kMiB);
}

}  // namespace
}  // namespace blockmig

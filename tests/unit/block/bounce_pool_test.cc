// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/bounce_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

namespace blockmig {
namespace {

bool is_aligned(const std::byte* data) {
  return reinterpret_cast<std::uintptr_t>(data) % AlignedBuffer::kAlignment == 0;
}

using Buffers = std::vector<std::unique_ptr<BouncePool::Lent>>;

void lend_all(BouncePool& pool, int count, std::size_t size, Buffers& into) {
  for (int i = 0; i < count; ++i) into.emplace_back(new BouncePool::Lent(pool.lend(size)));
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
  BouncePool::Lent first = pool.lend(4 * kKiB);
  {
    Buffers all;
    lend_all(pool, 40, 128 * kKiB, all);
    lend_all(pool, 1, kMiB, all);
    EXPECT_EQ(pool.kept_bytes(), 0u);
  }
  EXPECT_EQ(pool.kept_bytes(), 15 * 128 * kKiB);
}

TEST(BouncePool, LendsWhatLiesTogetherWhileThereIsSome) {
  BouncePool pool;
  Buffers all;
  lend_all(pool, 16, 128 * kKiB, all);
  std::vector<const std::byte*> places;
  for (const auto& each : all) places.push_back(each->bytes().data());
  std::sort(places.begin(), places.end());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(places.front()) % kContiguousBytes, 0u);
  for (std::size_t i = 0; i < places.size(); ++i) EXPECT_EQ(places[i], places[0] + i * 128 * kKiB);
  BouncePool::Lent more = pool.lend(4 * kKiB);  // of its own
  const bool inside =
      more.bytes().data() >= places[0] && more.bytes().data() < places[0] + kContiguousBytes;
  EXPECT_FALSE(inside);
  std::fill(more.bytes().begin(), more.bytes().end(), std::byte{7});
}

TEST(BouncePool, ServesAnotherSizeWhenAllOfOneCameBack) {
  BouncePool pool;
  const std::byte* memory = nullptr;
  {
    Buffers all;
    lend_all(pool, 512, 4 * kKiB, all);
    memory = all.front()->bytes().data();
  }
  EXPECT_EQ(pool.kept_bytes(), 0u);
  Buffers all;
  lend_all(pool, 16, 128 * kKiB, all);
  EXPECT_EQ(all.front()->bytes().data(), memory);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/presence_map.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "blockmig/base/random.h"

namespace blockmig {
namespace {

constexpr std::uint32_t kChunk = 64 * 1024;

std::unique_ptr<PresenceMap> absent(std::uint64_t size, std::vector<ByteRange> ranges) {
  auto dirty = *DirtyBitmap::create(size, kChunk);
  for (const ByteRange& range : ranges) dirty->mark(range.offset, range.length);
  auto map = *PresenceMap::create(size, kChunk);
  map->set_absent(*dirty);
  return map;
}

/// The members of the container, one by one.
RegionContainer by_bits(const PresenceMap& map, std::uint64_t chunks, std::uint32_t index) {
  RegionContainer container{index, {}};
  const std::uint64_t first = std::uint64_t{index} * kChunksPerContainer;
  for (std::uint64_t bit = 0; bit < kChunksPerContainer && first + bit < chunks; ++bit) {
    const ByteRange range = map.chunk_range(first + bit);
    if (map.is_present(first + bit) && !map.has_fresh(range)) continue;
    container.bits.resize(bit / 8 + 1);
    container.bits[bit / 8] |= std::byte{1} << (bit % 8);
  }
  return container;
}

void expect_by_bits(const PresenceMap& map, std::uint64_t chunks) {
  std::vector<RegionContainer> all;
  for (std::uint32_t index = 0; index < map.container_count(); ++index) {
    const RegionContainer expected = by_bits(map, chunks, index);
    EXPECT_EQ(map.durable_form(index), expected) << index;
    if (!expected.bits.empty()) all.push_back(expected);
  }
  EXPECT_EQ(map.durable_form(), all);
}

/// Some runs of all lengths, here and there by single chunks.
void change_at_random(DirtyBitmap& dirty, Random& random) {
  const std::uint64_t chunks = dirty.chunk_count();
  for (int i = 0; i < 40; ++i) {
    const std::uint64_t first = random.below(chunks);
    const std::uint64_t most = std::uint64_t{1} << random.below(17);
    const std::uint64_t last = std::min(chunks - 1, first + random.below(most));
    const std::uint64_t offset = dirty.chunk_range(first).offset;
    const std::uint64_t length = dirty.chunk_range(last).end() - offset;
    if (random.below(3) == 0) {
      dirty.clear(offset, length);
    } else {
      dirty.mark(offset, length);
    }
  }
}

TEST(PresenceMap, EverythingIsPresentUntilToldOtherwise) {
  const auto map = *PresenceMap::create(1 << 20, kChunk);
  EXPECT_TRUE(map->whole());
  EXPECT_TRUE(map->all_present({0, 1 << 20}));
  EXPECT_TRUE(map->durable_form().empty());
}

TEST(PresenceMap, OnlyWholeChunksBecomePresent_I12) {
  const auto map = absent(4 * kChunk, {{0, 4 * kChunk}});
  map->set_present({1, 2 * kChunk});
  EXPECT_FALSE(map->is_present(0));
  EXPECT_TRUE(map->is_present(1));
  EXPECT_FALSE(map->is_present(2));
  EXPECT_EQ(map->absent_bytes(), 3 * kChunk);
  map->set_present({0, kChunk - 1});
  EXPECT_FALSE(map->is_present(0));
}

TEST(PresenceMap, TheDisksEndIsAChunksEnd) {
  const std::uint64_t size = 2 * kChunk + 777;
  const auto map = absent(size, {{0, size}});
  EXPECT_EQ(map->absent_bytes(), size);
  map->set_present({2 * kChunk, 777});
  EXPECT_TRUE(map->is_present(2));
  EXPECT_EQ(map->outwards({2 * kChunk + 5, 1}), (ByteRange{2 * kChunk, 777}));
  EXPECT_EQ(map->inwards({kChunk - 1, kChunk + 778}), (ByteRange{kChunk, kChunk + 777}));
  EXPECT_TRUE(map->inwards({1, kChunk}).empty());
}

TEST(PresenceMap, TheDurableFormLagsUntilASaveIsAcknowledged_I12) {
  const auto map = absent(8 * kChunk, {{0, 3 * kChunk}});
  const auto before = map->durable_form();
  map->set_present({0, kChunk});
  EXPECT_EQ(map->durable_form(), before) << "fresh chunks are still absent there";
  {
    DirtyLease save = map->take_fresh();
    ASSERT_EQ(save.chunks(), std::vector<std::uint32_t>{0});
    // What becomes present after the save has begun is not covered by it.
    map->set_present({kChunk, kChunk});
    const RegionContainer form = map->durable_form(0);
    ASSERT_EQ(form.bits.size(), 1U);
    EXPECT_EQ(form.bits[0], std::byte{0b110});
  }
  EXPECT_EQ(map->durable_form(), before) << "a save that failed has saved nothing";
  map->take_fresh().acknowledge_all();
  const RegionContainer form = map->durable_form(0);
  EXPECT_EQ(form.bits[0], std::byte{0b100});
  EXPECT_FALSE(map->has_fresh());
}

TEST(PresenceMap, LoadsWhatItsDurableFormSays) {
  const std::uint64_t size = std::uint64_t{kChunk} * kChunksPerContainer * 2 + 5;
  const std::uint64_t last = size - 5;
  const auto map = absent(size, {{kChunk, 3 * kChunk}, {last, 5}, {last - kChunk, kChunk}});
  const auto saved = map->durable_form();
  ASSERT_EQ(saved.size(), 3U);
  EXPECT_EQ(saved[2].index, 2U);
  const auto loaded = PresenceMap::load(size, kChunk, saved);
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ((*loaded)->absent_bytes(), map->absent_bytes());
  EXPECT_EQ((*loaded)->durable_form(), saved);
  EXPECT_FALSE((*loaded)->has_fresh());
}

TEST(PresenceMap, TheDurableFormHasEveryAbsentAndFreshChunk) {
  Random random(1);
  constexpr std::uint64_t kChunks = 3 * kChunksPerContainer + 4711;
  constexpr std::uint64_t kSize = (kChunks - 1) * kChunk + 777;
  for (int round = 0; round < 20; ++round) {
    auto dirty = *DirtyBitmap::create(kSize, kChunk);
    if (round == 1) dirty->mark_all();
    if (round > 1) change_at_random(*dirty, random);
    const auto map = *PresenceMap::create(kSize, kChunk);
    map->set_absent(*dirty);
    for (int i = 0; i < round; ++i) {
      const std::uint64_t first = random.below(kChunks - 100);
      map->set_present({first * kChunk, random.below(100) * kChunk});
    }
    expect_by_bits(*map, kChunks);
    const auto loaded = PresenceMap::load(kSize, kChunk, map->durable_form());
    ASSERT_TRUE(loaded.ok());
    expect_by_bits(**loaded, kChunks);
    EXPECT_EQ((*loaded)->durable_form(), map->durable_form());
  }
}

TEST(PresenceMap, FollowsABitmapAndTellsWhichContainersHaveChanged) {
  Random random(2);
  // Enough blocks for the sparse ones, too.
  constexpr std::uint64_t kChunks = 40 * kChunksPerContainer - 1;
  constexpr std::uint64_t kSize = kChunks * kChunk - 5;
  auto dirty = *DirtyBitmap::create(kSize, kChunk);
  const auto map = *PresenceMap::create(kSize, kChunk);
  for (int round = 0; round < 60; ++round) {
    if (round % 20 == 19) dirty->clear_all();
    if (round % 20 == 9) dirty->mark_all();
    if (round % 3 != 0) change_at_random(*dirty, random);
    auto expected = *PresenceMap::create(kSize, kChunk);
    expected->set_absent(*dirty);
    for (std::uint32_t index = 0; index < map->container_count(); ++index) {
      const RegionContainer was = map->durable_form(index);
      const bool differs = was != expected->durable_form(index);
      EXPECT_EQ(map->follow(index, *dirty), differs) << index;
    }
    ASSERT_EQ(map->durable_form(), expected->durable_form()) << round;
    EXPECT_EQ(map->absent_bytes(), dirty->dirty_bytes());
  }
}

/// What a fence does with a large disk: nothing for what is as it was.
TEST(PresenceMap, FollowingADiskOf16TiBTouchesWhatHasChanged) {
  const std::uint64_t size = std::uint64_t{16} << 40;
  auto dirty = *DirtyBitmap::create(size, kChunk);
  dirty->mark_all();
  const auto map = *PresenceMap::create(size, kChunk);
  const auto follow = [&] {
    std::vector<std::uint32_t> changed;
    for (std::uint32_t index = 0; index < map->container_count(); ++index) {
      if (map->follow(index, *dirty)) changed.push_back(index);
    }
    return changed;
  };
  EXPECT_EQ(follow().size(), 8192U);
  EXPECT_TRUE(follow().empty());
  dirty->clear(std::uint64_t{5} << 31, kChunk);
  dirty->clear(size - kChunk, kChunk);
  EXPECT_EQ(follow(), (std::vector<std::uint32_t>{5, 8191}));
  EXPECT_EQ(map->absent_bytes(), size - 2 * kChunk);
  EXPECT_LT(map->memory_bytes(), 1U << 20);
}

TEST(PresenceMap, ChunksBeyondTheDiskAreRefused) {
  const std::vector<RegionContainer> saved{{0, {std::byte{0}, std::byte{1}}}};
  EXPECT_TRUE(PresenceMap::load(9 * kChunk, kChunk, saved).ok());
  const auto refused = PresenceMap::load(8 * kChunk, kChunk, saved);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kProtocol);
}

TEST(PresenceMap, ASparseDiskOf16TiBCostsLittle) {
  const std::uint64_t size = std::uint64_t{16} << 40;
  const auto map = absent(size, {{std::uint64_t{7} << 40, std::uint64_t{1} << 30}});
  EXPECT_EQ(map->absent_bytes(), std::uint64_t{1} << 30);
  EXPECT_LE(map->durable_form().size(), 2U);
  EXPECT_LT(map->memory_bytes(), 1U << 20);
}

}  // namespace
}  // namespace blockmig

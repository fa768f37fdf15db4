// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/presence_map.h"

#include <gtest/gtest.h>

#include <vector>

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

// SPDX-License-Identifier: Apache-2.0
#include "bitmap/sparse_block.h"

#include <gtest/gtest.h>
// After gtest, which it extends.
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <iterator>
#include <memory>
#include <set>
#include <vector>

#include "blockmig/base/random.h"

namespace blockmig {
namespace {

constexpr unsigned kPositions = SparseBlock::kPositions;
constexpr unsigned kMax = SparseBlock::kMaxChunks;
constexpr std::size_t kWords = kPositions / 64;

struct Destroy {
  void operator()(SparseBlock* block) const { SparseBlock::destroy(block); }
};
using Block = std::unique_ptr<SparseBlock, Destroy>;

Block create(unsigned chunks) { return Block(SparseBlock::create(chunks)); }

std::vector<unsigned> members(const SparseBlock& block) {
  std::vector<unsigned> found;
  for (unsigned at = block.next_set(0); at < kPositions; at = block.next_set(at + 1)) {
    found.push_back(at);
    if (at + 1 == kPositions) break;
  }
  return found;
}

TEST(SparseBlock, HoldsTheFirstAndTheLastPosition) {
  const Block block = create(2);
  EXPECT_EQ(block->next_set(0), kPositions);
  EXPECT_EQ(block->change(kPositions - 1, kPositions, true), 1U);
  EXPECT_EQ(block->change(0, 1, true), 1U);
  EXPECT_EQ(members(*block), (std::vector<unsigned>{0, kPositions - 1}));
  EXPECT_EQ(block->next_clear(kPositions - 1), kPositions);
  EXPECT_EQ(block->count_in(0, kPositions), 2U);
  EXPECT_EQ(block->change(0, kPositions, false), 2U);
  EXPECT_EQ(block->count(), 0U);
}

TEST(SparseBlock, ARangeOverSeveralBucketsIsOneRun) {
  const Block block = create(700);
  block->change(1000, 1001, true);
  EXPECT_EQ(block->change(500, 1100, true), 599U);
  EXPECT_EQ(block->next_clear(500), 1100U);
  EXPECT_EQ(block->next_set(1100), kPositions);
  EXPECT_EQ(block->change(511, 513, false), 2U);
  EXPECT_EQ(block->next_clear(500), 511U);
  EXPECT_EQ(block->next_set(511), 513U);
  EXPECT_EQ(block->change(500, 1100, true), 2U);
  EXPECT_EQ(block->count(), 600U);
}

TEST(SparseBlock, EqualLowBytesInOtherBucketsAreOtherChunks) {
  const Block block = create(4);
  block->change(256 * 3 + 9, 256 * 3 + 10, true);
  EXPECT_TRUE(block->test(256 * 3 + 9));
  for (const unsigned bucket : {0U, 2U, 4U, 127U}) EXPECT_FALSE(block->test(256 * bucket + 9));
}

TEST(SparseBlock, RoomGrowsAndShrinksInSteps) {
  SparseBlock* block = SparseBlock::create(1);
  const std::size_t small = block->memory_bytes();
  EXPECT_LE(small, 320U);
  block = SparseBlock::resized(block, kMax);
  EXPECT_GE(block->capacity(), kMax);
  EXPECT_LT(block->memory_bytes(), 2048U) << "half of a dense block, or it is not worth it";
  EXPECT_TRUE(block->wasteful());
  block->change(0, 300, true);
  block = SparseBlock::resized(block, block->count());
  EXPECT_FALSE(block->wasteful());
  EXPECT_EQ(block->next_clear(0), 300U);
  EXPECT_EQ(block->count(), 300U);
  SparseBlock::destroy(block);
}

TEST(SparseBlockDeathTest, TooLittleRoomAborts) {
  const Block block = create(1);
  EXPECT_DEATH(block->change(0, block->capacity() + 1, true), "check failed");
  EXPECT_DEATH(static_cast<void>(SparseBlock::create(kMax + 1)), "check failed");
}

void compare(const SparseBlock& block, const std::set<unsigned>& model) {
  RC_ASSERT(block.count() == model.size());
  RC_ASSERT(members(block) == std::vector<unsigned>(model.begin(), model.end()));
}

/// One random change of both; ranges are short, long or of one chunk.
void change_both(SparseBlock*& block, std::set<unsigned>& model, Random& random) {
  const auto first = static_cast<unsigned>(random.below(kPositions));
  const std::uint64_t longest = random.chance(1, 2) ? 1 : random.chance(1, 2) ? 20 : 700;
  const auto end = static_cast<unsigned>(
      std::min<std::uint64_t>(kPositions, first + random.between(1, longest)));
  const bool set = random.chance(3, 5);
  const unsigned already = block->count_in(first, end);
  const auto begin = model.lower_bound(first);
  RC_ASSERT(already == static_cast<unsigned>(std::distance(begin, model.lower_bound(end))));
  if (!set) {
    RC_ASSERT(block->change(first, end, false) == already);
    model.erase(begin, model.lower_bound(end));
    return;
  }
  const unsigned wanted = block->count() + (end - first) - already;
  if (wanted > kMax) return;
  if (wanted > block->capacity()) block = SparseBlock::resized(block, wanted);
  RC_ASSERT(block->change(first, end, true) == end - first - already);
  for (unsigned at = first; at < end; ++at) model.insert(at);
}

RC_GTEST_PROP(SparseBlockProperty, AgreesWithASet, ()) {
  Random random(*rc::gen::arbitrary<std::uint64_t>());
  SparseBlock* block = SparseBlock::create(1);
  std::set<unsigned> model;
  for (int i = 0; i < 60; ++i) {
    change_both(block, model, random);
    const auto at = static_cast<unsigned>(random.below(kPositions));
    RC_ASSERT(block->test(at) == model.contains(at));
    const auto next = model.lower_bound(at);
    RC_ASSERT(block->next_set(at) == (next == model.end() ? kPositions : *next));
    unsigned clear = at;
    while (model.contains(clear)) ++clear;
    RC_ASSERT(block->next_clear(at) == clear);
  }
  compare(*block, model);
  std::vector<std::uint64_t> words(kWords, 0);
  block->to_words(words.data());
  const Block again(SparseBlock::from_words(words.data(), block->count()));
  compare(*again, model);
  SparseBlock::destroy(block);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/copy_plan.h"

#include <gtest/gtest.h>

#include <vector>

namespace blockmig {
namespace {

using Kind = CopyPiece::Kind;
constexpr std::uint32_t kChunk = 64 * 1024;

std::vector<std::byte> zeros(std::size_t size) { return std::vector<std::byte>(size); }
bool never(std::uint64_t) { return false; }
bool always(std::uint64_t) { return true; }

TEST(CopyPlan, DataIsOnePiece) {
  const std::vector<std::byte> content(2 * kChunk, std::byte{7});
  const auto pieces = plan_copy(kChunk, content, kChunk, 1, never);
  EXPECT_EQ(pieces, (std::vector<CopyPiece>{{{kChunk, 2 * kChunk}, Kind::kWrite}}));
}

TEST(CopyPlan, ZerosOverOldContentAreZeroed_Trap9) {
  const auto content = zeros(kChunk);
  EXPECT_EQ(plan_copy(0, content, kChunk, 1, never),
            (std::vector<CopyPiece>{{{0, kChunk}, Kind::kZero}}));
}

TEST(CopyPlan, ZerosOverZerosAreSkipped) {
  const auto content = zeros(kChunk);
  EXPECT_EQ(plan_copy(0, content, kChunk, 1, always),
            (std::vector<CopyPiece>{{{0, kChunk}, Kind::kSkip}}));
}

TEST(CopyPlan, OnAFreshTargetHolesAreFoundInStepsOf4KiB) {
  auto content = zeros(kChunk);
  content[5000] = std::byte{1};
  EXPECT_EQ(plan_copy(0, content, kChunk, 1, always),
            (std::vector<CopyPiece>{{{0, 4096}, Kind::kSkip},
                                    {{4096, 4096}, Kind::kWrite},
                                    {{8192, kChunk - 8192}, Kind::kSkip}}));
}

TEST(CopyPlan, ATargetOfLargerBlocksGetsWholeOnes) {
  auto content = zeros(kChunk);
  content[5000] = std::byte{1};
  EXPECT_EQ(
      plan_copy(0, content, kChunk, 16384, always),
      (std::vector<CopyPiece>{{{0, 16384}, Kind::kWrite}, {{16384, kChunk - 16384}, Kind::kSkip}}));
}

TEST(CopyPlan, AMixedChunkOverOldContentTravelsWhole) {
  auto content = zeros(kChunk);
  content[5000] = std::byte{1};
  EXPECT_EQ(plan_copy(0, content, kChunk, 1, never),
            (std::vector<CopyPiece>{{{0, kChunk}, Kind::kWrite}}));
}

TEST(CopyPlan, EveryChunkIsAskedForItself) {
  const auto content = zeros(3 * kChunk);
  const auto pieces =
      plan_copy(0, content, kChunk, 1, [](std::uint64_t chunk) { return chunk == 1; });
  EXPECT_EQ(pieces, (std::vector<CopyPiece>{{{0, kChunk}, Kind::kZero},
                                            {{kChunk, kChunk}, Kind::kSkip},
                                            {{2 * kChunk, kChunk}, Kind::kZero}}));
}

TEST(CopyPlan, AnOddTailIsCoveredToItsLastByte_Trap7) {
  auto content = zeros(kChunk + 4097);
  content.back() = std::byte{1};
  const auto pieces = plan_copy(0, content, kChunk, 1, always);
  EXPECT_EQ(pieces, (std::vector<CopyPiece>{{{0, kChunk + 4096}, Kind::kSkip},
                                            {{kChunk + 4096, 1}, Kind::kWrite}}));
}

}  // namespace
}  // namespace blockmig

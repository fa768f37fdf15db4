// SPDX-License-Identifier: Apache-2.0
#include "tools/cli/compare.h"

#include <gtest/gtest.h>

#include "blockmig/block/memory_device.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/run_task.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSize = 5 * kMiB + 12345;

class Compare : public testing::Test {
 protected:
  void SetUp() override {
    auto loop = make_io_loop({});
    ASSERT_TRUE(loop.ok());
    loop_ = *std::move(loop);
    std::vector<std::byte> data(3 * kMiB);
    for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i % 251 + 1);
    a_.poke(kMiB / 2, data);
    b_.poke(kMiB / 2, data);
  }
  CompareReport compare(BlockDevice& a, BlockDevice& b) {
    ImageComparison comparison(*loop_, a, b, [](std::uint64_t, std::uint64_t) {});
    const auto report = run_task(*loop_, comparison.run());
    EXPECT_TRUE(report.ok());
    return report.ok() ? *report : CompareReport{};
  }
  void flip(MemoryDevice& device, std::uint64_t at) {
    std::byte byte{};
    device.peek(at, MutableBytes(&byte, 1));
    byte ^= std::byte{1};
    device.poke(at, ConstBytes(&byte, 1));
  }

  std::unique_ptr<IoLoop> loop_;
  MemoryDevice a_{"a", kSize};
  MemoryDevice b_{"b", kSize};
};

TEST_F(Compare, EqualImagesAreEqualWithTheSameDigest) {
  const CompareReport report = compare(a_, b_);
  EXPECT_TRUE(report.equal);
  EXPECT_EQ(report.different_chunks, 0u);
  EXPECT_EQ(report.a.digest, report.b.digest);
  EXPECT_EQ(report.a.digest.size(), 32u);
}

TEST_F(Compare, DigestIsTheOneOfAJobsReport) {
  std::vector<std::byte> all(kSize);
  a_.peek(0, all);
  ChunkDigests chunks(kSize);
  chunks.set(0, all);
  EXPECT_EQ(compare(a_, b_).a.digest, chunks.image().hex());
}

TEST_F(Compare, HoleEqualsWrittenZeros) {
  const std::vector<std::byte> zeros(kMiB);
  b_.poke(4 * kMiB, zeros);
  EXPECT_TRUE(compare(a_, b_).equal);
}

TEST_F(Compare, HolesTakeNoStepsOfTheirOwn) {
  constexpr std::uint64_t kHuge = 8192 * kGiB + 4321;
  constexpr std::uint64_t kDataAt = 5000 * kGiB + 3 * kMiB;
  MemoryDevice a("a", kHuge);
  MemoryDevice b("b", kHuge);
  const std::vector<std::byte> data(2 * kMiB, std::byte{7});
  a.poke(kDataAt, data);
  b.poke(kDataAt, data);
  int steps = 0;
  const auto look = [&] {
    ImageComparison comparison(*loop_, a, b, [&steps](std::uint64_t, std::uint64_t) { ++steps; });
    const auto report = run_task(*loop_, comparison.run());
    EXPECT_TRUE(report.ok());
    return report.ok() ? *report : CompareReport{};
  };
  EXPECT_TRUE(look().equal);
  EXPECT_LT(steps, 100);
  flip(b, kHuge - 1);
  EXPECT_EQ(look().first_difference, kHuge - 1);
}

TEST_F(Compare, OneBitAnywhereIsFound) {
  for (const std::uint64_t at : {std::uint64_t{0}, kMiB - 1, kMiB, 2 * kMiB + 77, kSize - 1}) {
    flip(b_, at);
    const CompareReport report = compare(a_, b_);
    EXPECT_FALSE(report.equal) << at;
    EXPECT_EQ(report.first_difference, at);
    EXPECT_EQ(report.different_chunks, 1u) << at;
    EXPECT_NE(report.a.digest, report.b.digest) << at;
    flip(b_, at);
  }
}

TEST_F(Compare, FirstDifferenceAndChunksAreCounted) {
  flip(b_, 3 * kMiB);
  flip(b_, 3 * kMiB + 1);
  flip(b_, 100);
  const CompareReport report = compare(a_, b_);
  EXPECT_EQ(report.first_difference, 100u);
  EXPECT_EQ(report.different_chunks, 2u);
}

TEST_F(Compare, DifferentSizesDifferAtTheEndOfTheShorter) {
  MemoryDevice longer("c", kSize + 70000);
  std::vector<std::byte> all(kSize);
  a_.peek(0, all);
  longer.poke(0, all);
  const CompareReport report = compare(a_, longer);
  EXPECT_FALSE(report.equal);
  EXPECT_EQ(report.first_difference, kSize);
  EXPECT_EQ(report.different_chunks, 0u);
}

TEST_F(Compare, EmptyImagesAreEqual) {
  MemoryDevice a("a", 0);
  MemoryDevice b("b", 0);
  EXPECT_TRUE(compare(a, b).equal);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The small values of base: byte ranges, endian loads, errors and results, digests, random numbers.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/digest.h"
#include "blockmig/base/endian.h"
#include "blockmig/base/error.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

TEST(Bytes, FitsDoesNotWrap) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_TRUE(fits(0, 0, 0));
  EXPECT_TRUE(fits(10, 0, 10));
  EXPECT_TRUE(fits(4, 6, 10));
  EXPECT_FALSE(fits(4, 7, 10));
  EXPECT_FALSE(fits(11, 0, 10));
  EXPECT_FALSE(fits(1, kMax, 10));
  EXPECT_FALSE(fits(kMax, 2, kMax));
  EXPECT_EQ(div_up(kMax, 4096), kMax / 4096 + 1);
}

TEST(Bytes, RangesOverlapHalfOpen) {
  const ByteRange range{10, 10};
  EXPECT_TRUE(range.overlaps({19, 1}));
  EXPECT_FALSE(range.overlaps({20, 1}));
  EXPECT_FALSE(range.overlaps({0, 10}));
  EXPECT_TRUE(range.contains({10, 10}));
  EXPECT_FALSE(range.contains({10, 11}));
}

TEST(Bytes, ZeroTestFindsOneByteAnywhere) {
  for (const std::size_t size : {0UL, 1UL, 15UL, 16UL, 17UL, 31UL, 4096UL, 4099UL}) {
    std::vector<std::byte> bytes(size);
    EXPECT_TRUE(is_all_zero(bytes)) << size;
    for (std::size_t i = 0; i < size; ++i) {
      bytes[i] = std::byte{1};
      ASSERT_FALSE(is_all_zero(bytes)) << size << " " << i;
      bytes[i] = std::byte{0};
    }
  }
}

TEST(Endian, LoadsAndStoresAtAnyAddress) {
  unsigned char bytes[9] = {};
  store_be<std::uint64_t>(bytes + 1, 0x0102030405060708ULL);
  for (int i = 1; i <= 8; ++i) EXPECT_EQ(bytes[i], i);
  EXPECT_EQ(load_be<std::uint32_t>(bytes + 1), 0x01020304U);
  EXPECT_EQ(load_le<std::uint32_t>(bytes + 1), 0x04030201U);
  EXPECT_EQ(load_be<std::uint16_t>(bytes + 7), 0x0708U);
  store_le<std::uint16_t>(bytes, 0x1234);
  EXPECT_EQ(bytes[0], 0x34);
}

TEST(Error, KeepsCodeErrnoAndContext) {
  const Error error = Error::from_errno(ENOSPC, "writing /x").with_context("job 7");
  EXPECT_EQ(error.code(), ErrorCode::kNoSpace);
  EXPECT_EQ(error.os_errno(), ENOSPC);
  EXPECT_EQ(error.message(), std::string("job 7: writing /x: ") + std::strerror(ENOSPC));
  EXPECT_EQ(Error(ErrorCode::kNotConverging).message(), "not-converging");
}

TEST(Error, UnknownErrnoIsAnIoError) {
  EXPECT_EQ(code_from_errno(EIO), ErrorCode::kIo);
  EXPECT_EQ(code_from_errno(EXDEV), ErrorCode::kIo);
  EXPECT_EQ(code_from_errno(EACCES), ErrorCode::kReadOnly);
}

TEST(Result, HoldsAMoveOnlyValueOrAnError) {
  Result<std::unique_ptr<int>> value = std::make_unique<int>(7);
  ASSERT_TRUE(value.ok());
  const std::unique_ptr<int> taken = *std::move(value);
  EXPECT_EQ(*taken, 7);
  const Result<int> failed = Error(ErrorCode::kBusy);
  EXPECT_FALSE(failed);
  EXPECT_EQ(failed.error().code(), ErrorCode::kBusy);
}

TEST(ResultDeathTest, DereferencingAnErrorAborts) {
  const Result<int> failed = Error(ErrorCode::kBusy);
  EXPECT_DEATH(static_cast<void>(*failed), "check failed");
  EXPECT_DEATH(static_cast<void>(Status().error()), "check failed");
}

TEST(Digest, PartsGiveTheDigestOfTheWhole) {
  Random random(3);
  std::vector<std::byte> bytes(10'000);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random.next());
  for (const std::size_t cut : {0UL, 1UL, 255UL, 4096UL, 10'000UL}) {
    DigestStream stream;
    stream.update(ConstBytes(bytes).first(cut));
    stream.update(ConstBytes(bytes).subspan(cut));
    EXPECT_EQ(stream.finish(), digest_of(bytes));
  }
  // XXH3-128 of the empty input with seed 0, from the reference implementation's test vectors.
  EXPECT_EQ(digest_of({}).hex(), "99aa06d3014798d86001c324468d497f");
  bytes[5000] ^= std::byte{1};
  EXPECT_NE(digest_of(bytes), digest_of(ConstBytes(bytes).first(9999)));
}

// From the reference implementation without vectors: what the processor's widest ones make of it
// must be the same, or a report could not be compared with another machine's.
TEST(Digest, IsTheSameWhateverTheProcessorCanDo) {
  std::vector<std::byte> bytes(65536);
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<std::byte>(i * 31 + i / 256);
  const std::vector<std::pair<std::size_t, std::string>> expected = {
      {1, "a6cd5e9392000f6ac44bdff4074eecdb"},    {17, "340f6f9202ad1131a378e80882221151"},
      {200, "74aaf80f98621358b5722aed107bd214"},  {241, "8e7e1f2fe4156df918773c512b008a63"},
      {1024, "ea65234127f4dd7b5a1893edffa2577c"}, {4096, "d993a1ab1ec875a6be855965eae8486b"},
      {65536, "fb24369bce00a66c4337fbce6c5dd9ed"}};
  for (const auto& [size, hex] : expected) {
    const ConstBytes content = ConstBytes(bytes).first(size);
    EXPECT_EQ(digest_of(content).hex(), hex) << size;
    DigestStream stream;
    stream.update(content.first(size / 2));
    stream.update(content.subspan(size / 2));
    EXPECT_EQ(stream.finish().hex(), hex) << size;
  }
}

TEST(Random, IsAFunctionOfTheSeedAndStaysInBounds) {
  Random a(42);
  Random b(42);
  Random c(43);
  EXPECT_EQ(a.next(), b.next());
  EXPECT_NE(a.next(), c.next());
  bool seen[3] = {};
  for (int i = 0; i < 1000; ++i) {
    const std::uint64_t value = a.between(5, 7);
    ASSERT_GE(value, 5U);
    ASSERT_LE(value, 7U);
    seen[value - 5] = true;
  }
  EXPECT_TRUE(seen[0] && seen[1] && seen[2]);
  EXPECT_FALSE(a.chance(0, 10));
  EXPECT_TRUE(a.chance(10, 10));
}

}  // namespace
}  // namespace blockmig

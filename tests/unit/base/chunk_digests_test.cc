// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/chunk_digests.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "blockmig/base/random.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;

std::vector<std::byte> noise(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

Digest digest_in_order(ConstBytes content) {
  ImageDigest image;
  image.append(content);
  return image.finish();
}

TEST(ChunkDigests, ImageDigestDoesNotDependOnTheOrderOfArrival) {
  const auto content = noise(5 * kChunk + 777, 1);
  ChunkDigests backwards(content.size());
  for (std::uint64_t chunk = 6; chunk-- > 0;) {
    const std::uint64_t offset = chunk * kChunk;
    const auto length = std::min<std::size_t>(kChunk, content.size() - offset);
    backwards.set(offset, ConstBytes(content).subspan(offset, length));
  }
  EXPECT_EQ(backwards.image(), digest_in_order(content));
}

TEST(ChunkDigests, LongRunsOfZerosHaveTheSameDigestAsOneByOne) {
  for (const std::uint64_t tail : {0UL, 777UL}) {
    ChunkDigests digests(10'000 * kChunk + tail);
    const std::vector<std::byte> content(kChunk, std::byte{7});
    for (const std::uint64_t chunk : {1UL, 4096UL, 8191UL, 8193UL})
      digests.set(chunk * kChunk, content);
    ImageDigest expected;
    for (std::uint64_t chunk = 0; chunk < digests.chunk_count(); ++chunk) {
      expected.append_chunk(*digests.find(chunk));
    }
    EXPECT_EQ(digests.image(), expected.finish());
  }
}

TEST(ChunkDigests, ChunksNeverSetAndChunksOfZerosAreTheSame) {
  const std::vector<std::byte> zeros(3 * kChunk + 1);
  const ChunkDigests untouched(zeros.size());
  EXPECT_EQ(untouched.image(), digest_in_order(zeros));
  ChunkDigests rewritten(zeros.size());
  const auto content = noise(kChunk, 2);
  rewritten.set(kChunk, content);
  EXPECT_NE(rewritten.image(), untouched.image());
  rewritten.set(kChunk, ConstBytes(zeros).first(kChunk));
  EXPECT_EQ(rewritten.image(), untouched.image());
}

TEST(ChunkDigests, OneFlippedBitChangesTheImage) {
  auto content = noise(4 * kChunk, 3);
  const Digest before = digest_in_order(content);
  content[3 * kChunk + 5] ^= std::byte{1};
  EXPECT_NE(digest_in_order(content), before);
}

TEST(ChunkDigests, APartlyWrittenChunkIsUnknownUntilItIsWrittenWhole) {
  const auto content = noise(2 * kChunk, 4);
  ChunkDigests digests(content.size());
  digests.set(0, content);
  EXPECT_EQ(digests.unknown_chunks(), 0u);
  digests.set(kChunk - 512, ConstBytes(content).first(1024));
  EXPECT_EQ(digests.unknown_chunks(), 2u);
  EXPECT_EQ(digests.next_unknown(0), (ByteRange{0, kChunk}));
  digests.set(0, content);
  EXPECT_EQ(digests.unknown_chunks(), 0u);
  EXPECT_EQ(digests.next_unknown(0), std::nullopt);
  digests.invalidate(kChunk, 1);
  EXPECT_EQ(digests.next_unknown(0), (ByteRange{kChunk, kChunk}));
}

TEST(ChunkDigests, TheShortTailIsAChunkOfItsOwnLength_Trap7) {
  const auto content = noise(kChunk + 1, 5);
  ChunkDigests digests(content.size());
  digests.set(kChunk, ConstBytes(content).subspan(kChunk));
  EXPECT_EQ(digests.unknown_chunks(), 0u) << "one byte is the whole of the last chunk";
  digests.set(0, ConstBytes(content).first(kChunk));
  EXPECT_EQ(digests.image(), digest_in_order(content));
}

TEST(ChunkDigests, RunsAndSingleDigestsAreWhatWasSet) {
  ChunkDigests digests(5000 * kChunk + 1);
  EXPECT_TRUE(digests.runs().empty());
  digests.set_digest(1023, {1, 2});
  digests.set_digest(1024, {3, 4});  // the next page
  digests.invalidate(1025 * kChunk, kChunk);
  digests.set_digest(5000, {5, 6});
  const std::vector<ChunkDigests::Run> expected = {
      {1023, 2, true}, {1025, 1, false}, {5000, 1, true}};
  EXPECT_EQ(digests.runs(), expected);
  EXPECT_EQ(digests.find(1024), (Digest{3, 4}));
  EXPECT_EQ(digests.find(7), zero_chunk_digest(kChunk));
  EXPECT_EQ(digests.find(1025), std::nullopt);
  EXPECT_TRUE(digests.is_zero(1026));
  EXPECT_FALSE(digests.is_zero(1025));
  digests.set_zero(1023);
  EXPECT_TRUE(digests.is_zero(1023));
}

TEST(ChunkDigests, WhatAnotherKnowsOfARangeIsTaken) {
  const auto content = noise(4 * kChunk, 9);
  ChunkDigests from(content.size());
  from.set(0, ConstBytes(content).first(3 * kChunk));
  from.invalidate(2 * kChunk, 1);
  ChunkDigests into(content.size());
  into.set(0, noise(4 * kChunk, 10));
  const Digest first = *into.find(0);
  into.take(from, {kChunk, 3 * kChunk});
  EXPECT_EQ(into.find(0), first) << "not of the range";
  EXPECT_EQ(into.find(1), from.find(1));
  EXPECT_FALSE(into.find(2)) << "not known there";
  EXPECT_TRUE(into.is_zero(3));
}

TEST(ChunkDigests, TellsOnceOfEachGroupThatHasChanged) {
  constexpr std::uint64_t kGroup = ChunkDigests::kGroupChunks;
  ChunkDigests digests(2000 * kChunk);
  EXPECT_TRUE(digests.take_changed().empty());
  digests.set_digest(0, Digest{1, 2});
  digests.set_digest(1, Digest{1, 2});
  digests.invalidate((3 * kGroup + 1) * kChunk, kChunk);
  digests.set_digest(5 * kGroup, Digest{1, 2});
  EXPECT_EQ(digests.take_changed(), (std::vector<std::uint64_t>{0, 3, 5}));
  EXPECT_TRUE(digests.take_changed().empty());
  digests.set_zero(1);
  EXPECT_EQ(digests.take_changed(), std::vector<std::uint64_t>{0});
  digests.set_zeros(9 * kGroup * kChunk, kChunk);
  EXPECT_TRUE(digests.take_changed().empty()) << "zeros that were never anything else";
  digests.change_all();
  const std::vector<std::uint64_t> all = digests.take_changed();
  EXPECT_EQ(std::set<std::uint64_t>(all.begin(), all.end()),
            (std::set<std::uint64_t>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(ChunkDigests, AlikeCountsNeighboursOfOneKind) {
  ChunkDigests digests(5000 * kChunk);
  digests.set_digest(3000, {1, 2});
  digests.invalidate(3001 * kChunk, kChunk);
  EXPECT_EQ(digests.alike(0, 5000), 3000u);
  EXPECT_EQ(digests.alike(0, 10), 10u);
  EXPECT_EQ(digests.alike(3000, 5000), 2u);
  EXPECT_EQ(digests.alike(3002, 5000), 1998u);
}

TEST(ChunkDigests, ARangeOfZerosIsAsIfItsBytesHadBeenGiven) {
  ChunkDigests digests(4000 * kChunk + 5);
  const std::vector<std::byte> data(3 * kChunk, std::byte{1});
  digests.set(kChunk, data);
  digests.set_zeros(0, 2 * kChunk);
  EXPECT_TRUE(digests.is_zero(1));
  EXPECT_FALSE(digests.is_zero(2));
  digests.set_zeros(2 * kChunk + 1, kChunk - 1);  // a part of a chunk that was not zero
  EXPECT_EQ(digests.unknown_chunks(), 1u);
  digests.set_zeros(3 * kChunk, digests.size_bytes() - 3 * kChunk);
  digests.set_zeros(2 * kChunk, kChunk);
  EXPECT_EQ(digests.image(), ChunkDigests(digests.size_bytes()).image());
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/manifest.h"

#include <gtest/gtest.h>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/base/random.h"
#include "sharedfs/image_source.h"
#include "sharedfs/manifest_format.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kChunk = ChunkDigests::kChunkBytes;

Manifest example() {
  Manifest manifest(100 * kChunk + 777);
  manifest.generation = 7;
  manifest.owner_epoch = 3;
  manifest.owner = "vm1";
  manifest.image = {4711, -5};
  manifest.digests.set_digest(2, {1, 2});
  manifest.digests.set_digest(3, {3, 4});
  manifest.digests.set_digest(100, {5, 6});
  manifest.digests.invalidate(4 * kChunk, 2 * kChunk);
  return manifest;
}

void seal(std::vector<std::byte>& bytes) {
  const std::size_t crc_at = bytes.size() - manifest_format::kCrcBytes;
  store_le<std::uint32_t>(bytes.data() + crc_at, crc32c(ConstBytes(bytes).first(crc_at)));
}

ErrorCode refusal(const std::vector<std::byte>& bytes) {
  const auto manifest = decode_manifest(bytes);
  EXPECT_FALSE(manifest.ok());
  return manifest.ok() ? ErrorCode::kCancelled : manifest.error().code();
}

TEST(Manifest, ComesBackAsItWasWritten) {
  const Manifest before = example();
  const auto after = decode_manifest(encode_manifest(before));
  ASSERT_TRUE(after.ok()) << after.error().message();
  EXPECT_EQ(after->generation, before.generation);
  EXPECT_EQ(after->owner_epoch, before.owner_epoch);
  EXPECT_EQ(after->owner, before.owner);
  EXPECT_EQ(after->image, before.image);
  EXPECT_EQ(after->size_bytes(), before.size_bytes());
  EXPECT_EQ(after->digests.runs(), before.digests.runs());
  EXPECT_EQ(after->digests.find(100), (Digest{5, 6}));
  EXPECT_FALSE(after->digests.find(4).has_value());
  EXPECT_TRUE(after->digests.is_zero(6));
}

TEST(Manifest, SaysThatItsOwnerIsWritingToTheImage) {
  Manifest manifest = example();
  EXPECT_FALSE(decode_manifest(encode_manifest(manifest))->changing);
  manifest.changing = true;
  EXPECT_TRUE(decode_manifest(encode_manifest(manifest))->changing);
}

TEST(Manifest, OnlyItsOwnerGoesOnWithALaterGeneration) {
  const FolderImage::Expected owner{7, 1, 2, "vm1", 3};
  EXPECT_TRUE(FolderImage::is_meant(owner, 7, "vm1", 3));
  EXPECT_TRUE(FolderImage::is_meant(owner, 9, "vm1", 3));
  EXPECT_FALSE(FolderImage::is_meant(owner, 6, "vm1", 3));
  EXPECT_FALSE(FolderImage::is_meant(owner, 9, "vm1", 4));
  EXPECT_FALSE(FolderImage::is_meant(owner, 9, "vm2", 3));
  EXPECT_FALSE(FolderImage::is_meant(owner, 9, "", 0));
  const FolderImage::Expected stranger{7, 1, 2};
  EXPECT_TRUE(FolderImage::is_meant(stranger, 7, "vm1", 3));
  EXPECT_FALSE(FolderImage::is_meant(stranger, 8, "vm1", 3));
}

TEST(Manifest, AnImageOfZerosCostsNoDigests) {
  EXPECT_LT(encode_manifest(Manifest(16 * kTiB)).size(), 128u);
}

TEST(Manifest, EveryFlippedBitIsFound) {
  const auto good = encode_manifest(example());
  for (std::size_t at = 0; at < good.size(); ++at) {
    auto bad = good;
    bad[at] ^= std::byte{0x10};
    EXPECT_EQ(refusal(bad), ErrorCode::kProtocol) << "at byte " << at;
  }
}

TEST(Manifest, EveryTruncationIsFound) {
  const auto good = encode_manifest(example());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(refusal({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size)}),
              ErrorCode::kProtocol);
  }
}

TEST(Manifest, NewerVersionsAreRefusedAsNewer) {
  auto bytes = encode_manifest(example());
  store_le<std::uint16_t>(bytes.data() + manifest_format::kVersionAt, 2);
  seal(bytes);
  EXPECT_EQ(refusal(bytes), ErrorCode::kPrecondition);
}

TEST(Manifest, RightChecksumsDoNotMakeWrongFieldsRight) {
  const auto good = encode_manifest(example());
  const std::size_t runs_at = manifest_format::kHeaderBytes + 3;
  const auto with = [&good](std::size_t at, std::uint64_t value, std::size_t bytes) {
    auto bad = good;
    for (std::size_t i = 0; i < bytes; ++i) {
      bad[at + i] = static_cast<std::byte>(value >> (8 * i));
    }
    seal(bad);
    return bad;
  };
  EXPECT_EQ(refusal(with(manifest_format::kVersionAt, 0, 2)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kFlagsAt, 2, 2)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kGranularityAt, 4096, 4)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kSizeAt, UINT64_MAX, 8)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kSizeAt, 2 * kChunk, 8)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kOwnerBytesAt, 5000, 4)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kRunCountAt, 2, 8)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(manifest_format::kRunCountAt, 9, 8)), ErrorCode::kProtocol);
  EXPECT_EQ(refusal(with(runs_at, 3, 1)), ErrorCode::kProtocol);       // kind
  EXPECT_EQ(refusal(with(runs_at + 1, 50, 8)), ErrorCode::kProtocol);  // out of order
  EXPECT_EQ(refusal(with(runs_at + 9, 0, 8)), ErrorCode::kProtocol);   // empty run
  EXPECT_EQ(refusal(with(runs_at + 9, UINT64_MAX, 8)), ErrorCode::kProtocol);
}

TEST(Manifest, NoiseIsRefused) {
  Random random(11);
  for (int i = 0; i < 2000; ++i) {
    auto bytes = encode_manifest(example());
    const std::uint64_t changes = random.between(1, 12);
    for (std::uint64_t change = 0; change < changes; ++change) {
      // Behind the magic, so that what is inside is looked at.
      const std::uint64_t at = random.between(10, bytes.size() - 5);
      bytes[at] = static_cast<std::byte>(random.next());
    }
    seal(bytes);
    const auto manifest = decode_manifest(bytes);
    if (manifest.ok()) {
      EXPECT_EQ(encode_manifest(*manifest).size(), bytes.size());
    }
  }
}

}  // namespace
}  // namespace blockmig

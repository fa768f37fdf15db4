// SPDX-License-Identifier: Apache-2.0
#include "bitmap/bitmap_codec.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bitmap/bitmap_format.h"
#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/base/random.h"

namespace blockmig {
namespace {

namespace format = bitmap_format;
using Frame = std::vector<std::byte>;

std::unique_ptr<DirtyBitmap> make(std::uint64_t size, std::uint32_t granularity) {
  auto bitmap = DirtyBitmap::create(size, granularity);
  EXPECT_TRUE(bitmap.ok());
  return *std::move(bitmap);
}

/// A bitmap whose payload has an array, a run and a bitset container.
std::unique_ptr<DirtyBitmap> mixed() {
  auto bitmap = make(4096ULL * 65536 * 3 + 17, 4096);
  for (std::uint64_t i = 0; i < 100; ++i) bitmap->mark(i * i * 4096, 1);
  bitmap->mark(65536ULL * 4096 + 4096 * 10, 4096 * 5000);
  for (std::uint64_t i = 0; i < 65536; i += 2) bitmap->mark((131072 + i) * 4096, 1);
  bitmap->mark(bitmap->size_bytes() - 1, 1);
  return bitmap;
}

void seal(Frame& frame) {
  const std::size_t at = frame.size() - format::kCrcBytes;
  store_le<std::uint32_t>(frame.data() + at, crc32c(ConstBytes(frame).first(at)));
}

/// The frame with one change behind the checksum's back, which is then made right: a hostile peer.
Frame forged(const Frame& frame, const std::function<void(Frame&)>& change) {
  Frame copy = frame;
  change(copy);
  seal(copy);
  return copy;
}

void expect_refused(const Frame& frame, ErrorCode code, const std::string& part) {
  const auto decoded = decode_bitmap(frame);
  ASSERT_FALSE(decoded.ok()) << part;
  EXPECT_EQ(decoded.error().code(), code);
  EXPECT_NE(decoded.error().message().find(part), std::string::npos)
      << decoded.error().message() << " does not say: " << part;
}

/// A frame around hand-made payload bytes.
Frame frame_of(const std::vector<std::uint16_t>& payload, std::uint64_t size, std::uint64_t count) {
  const std::size_t payload_bytes = payload.size() * 2;
  Frame frame(format::kHeaderBytes + payload_bytes + format::kCrcBytes);
  std::memcpy(frame.data(), format::kMagic.data(), format::kMagic.size());
  store_le<std::uint16_t>(frame.data() + format::kVersionAt, format::kVersion);
  store_le<std::uint32_t>(frame.data() + format::kGranularityAt, 4096);
  store_le<std::uint64_t>(frame.data() + format::kSizeAt, size);
  store_le<std::uint64_t>(frame.data() + format::kDirtyCountAt, count);
  store_le<std::uint64_t>(frame.data() + format::kPayloadBytesAt, payload_bytes);
  for (std::size_t i = 0; i < payload.size(); ++i) {
    store_le<std::uint16_t>(frame.data() + format::kHeaderBytes + 2 * i, payload[i]);
  }
  seal(frame);
  return frame;
}

TEST(BitmapCodec, RoundTripKeepsEverything) {
  const auto bitmap = mixed();
  const Frame frame = encode_bitmap(*bitmap);
  const auto decoded = decode_bitmap(frame);
  ASSERT_TRUE(decoded.ok()) << decoded.error().message();
  EXPECT_EQ((*decoded)->size_bytes(), bitmap->size_bytes());
  EXPECT_EQ((*decoded)->granularity_bytes(), bitmap->granularity_bytes());
  EXPECT_EQ((*decoded)->dirty_count(), bitmap->dirty_count());
  EXPECT_EQ((*decoded)->runs(0, bitmap->size_bytes(), ~std::size_t{0}),
            bitmap->runs(0, bitmap->size_bytes(), ~std::size_t{0}));
  const auto info = frame_info(frame);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->size_bytes, bitmap->size_bytes());
  EXPECT_EQ(info->granularity_bytes, 4096U);
  EXPECT_EQ(info->dirty_count, bitmap->dirty_count());
}

TEST(BitmapCodec, EmptyAndFullBitmapsAreSmall) {
  const auto bitmap = make(16 * kTiB, 65536);
  EXPECT_TRUE(decode_bitmap(encode_bitmap(*bitmap)).ok());
  EXPECT_LT(encode_bitmap(*bitmap).size(), 64U);
  bitmap->mark_all();
  const Frame full = encode_bitmap(*bitmap);
  EXPECT_LT(full.size(), 100 * kKiB);
  const auto decoded = decode_bitmap(full);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ((*decoded)->dirty_bytes(), 16 * kTiB);
  EXPECT_TRUE(decode_bitmap(encode_bitmap(*make(0, 4096))).ok());
}

TEST(BitmapCodec, EncodingDoesNotChangeTheBitmap) {
  const auto bitmap = mixed();
  const std::uint64_t count = bitmap->dirty_count();
  EXPECT_EQ(encode_bitmap(*bitmap), encode_bitmap(*bitmap));
  bitmap->mark(4096 * 3, 1);
  EXPECT_EQ(bitmap->dirty_count(), count + 1);
}

TEST(BitmapCodec, TheLayoutIsTheDocumentedOne) {
  const auto bitmap = make(3 * 4096, 4096);
  bitmap->mark(4096, 1);
  const Frame frame = encode_bitmap(*bitmap);
  // FORMAT.md, field by field: a change here is a new version.
  std::string hex;
  for (const std::byte b : frame) {
    constexpr char kDigits[] = "0123456789abcdef";
    hex += kDigits[static_cast<int>(b) >> 4];
    hex += kDigits[static_cast<int>(b) & 15];
  }
  EXPECT_EQ(hex.substr(0, 80),
            "424d44495254590a"
            "0100"
            "0000"
            "00100000"
            "0030000000000000"
            "0100000000000000"
            "1200000000000000");
  EXPECT_EQ(hex.substr(80, 36),
            "3a300000"
            "01000000"
            "00000000"
            "10000000"
            "0100");
  EXPECT_EQ(frame.size(), 62U);
}

TEST(BitmapCodec, EveryBitFlipIsRefused) {
  const auto bitmap = make(4096 * 1000 + 1, 4096);
  bitmap->mark(0, 4096 * 50);
  for (std::uint64_t i = 100; i < 1000; i += 7) bitmap->mark(i * 4096, 1);
  const Frame frame = encode_bitmap(*bitmap);
  for (std::size_t bit = 0; bit < frame.size() * 8; ++bit) {
    Frame flipped = frame;
    flipped[bit / 8] ^= std::byte{1} << (bit % 8);
    const auto decoded = decode_bitmap(flipped);
    ASSERT_FALSE(decoded.ok()) << "bit " << bit;
    ASSERT_EQ(decoded.error().code(), ErrorCode::kProtocol) << "damage is never 'a newer version'";
  }
}

TEST(BitmapCodec, EveryTruncationAndEveryTrailingByteIsRefused) {
  const Frame frame = encode_bitmap(*mixed());
  for (std::size_t size = 0; size < frame.size(); size += size < 200 ? 1 : 97) {
    ASSERT_FALSE(decode_bitmap(ConstBytes(frame).first(size)).ok()) << size;
  }
  Frame longer = frame;
  longer.push_back(std::byte{0});
  EXPECT_FALSE(decode_bitmap(longer).ok());
  // The same with a checksum over the longer frame: lengths are checked on their own.
  seal(longer);
  expect_refused(longer, ErrorCode::kProtocol, "payload length");
}

TEST(BitmapCodec, ForgedHeadersAreRefused) {
  const Frame frame = encode_bitmap(*mixed());
  expect_refused(
      forged(frame, [](Frame& f) { store_le<std::uint16_t>(&f[format::kVersionAt], 2); }),
      ErrorCode::kPrecondition, "newer");
  expect_refused(
      forged(frame, [](Frame& f) { store_le<std::uint16_t>(&f[format::kVersionAt], 0); }),
      ErrorCode::kProtocol, "version 0");
  expect_refused(forged(frame, [](Frame& f) { store_le<std::uint16_t>(&f[format::kFlagsAt], 1); }),
                 ErrorCode::kProtocol, "flags");
  for (const std::uint32_t granularity : {0U, 1U, 4097U, 2048U, 0xffffffffU}) {
    expect_refused(forged(frame,
                          [granularity](Frame& f) {
                            store_le<std::uint32_t>(&f[format::kGranularityAt], granularity);
                          }),
                   ErrorCode::kProtocol, "granularity");
  }
  expect_refused(
      forged(frame, [](Frame& f) { store_le<std::uint64_t>(&f[format::kSizeAt], ~0ULL); }),
      ErrorCode::kProtocol, "2^32 chunks");
  expect_refused(
      forged(frame, [](Frame& f) { store_le<std::uint64_t>(&f[format::kDirtyCountAt], 1); }),
      ErrorCode::kProtocol, "dirty count");
  expect_refused(
      forged(frame, [](Frame& f) { store_le<std::uint64_t>(&f[format::kPayloadBytesAt], ~0ULL); }),
      ErrorCode::kProtocol, "payload length");
  expect_refused(forged(frame, [](Frame& f) { f[0] = std::byte{'X'}; }), ErrorCode::kProtocol,
                 "magic");
}

TEST(BitmapCodec, AChunkBeyondTheDiskIsRefused) {
  const auto bitmap = make(4096 * 10, 4096);
  bitmap->mark(4096 * 9, 1);
  const Frame frame = encode_bitmap(*bitmap);
  const auto shrink = [](Frame& f) { store_le<std::uint64_t>(&f[format::kSizeAt], 4096 * 9); };
  expect_refused(forged(frame, shrink), ErrorCode::kProtocol, "beyond the disk");
}

// Payloads by hand, as 16-bit words: what CRoaring 0.2.66 takes and should not.
TEST(BitmapCodec, MalformedRoaringPayloadsAreRefused) {
  constexpr std::uint64_t kSize = 4096ULL * 65536 * 4;
  const auto refuse = [&](const std::vector<std::uint16_t>& payload, const std::string& part) {
    expect_refused(frame_of(payload, kSize, 2), ErrorCode::kProtocol, part);
  };
  // The healthy ones first, so that what follows is refused for its own reason.
  EXPECT_TRUE(decode_bitmap(frame_of({12346, 0, 1, 0, 0, 1, 16, 0, 5, 9}, kSize, 2)).ok());
  EXPECT_TRUE(decode_bitmap(frame_of({12347, 0, 0x0001, 0, 0}, kSize, 0)).error().code() ==
              ErrorCode::kProtocol);
  refuse({}, "no cookie");
  refuse({1, 2}, "unknown cookie");
  refuse({12346, 0}, "no container count");
  refuse({12346, 0, 0, 2}, "too many containers");
  refuse({12346, 0, 1, 0}, "truncated keys");
  refuse({12346, 0, 1, 0, 0, 1}, "truncated offsets");
  refuse({12346, 0, 1, 0, 0, 1, 16, 0, 5}, "truncated array");
  refuse({12346, 0, 1, 0, 0, 1, 18, 0, 5, 9}, "wrong container offset");
  refuse({12346, 0, 1, 0, 0, 1, 16, 0, 9, 5}, "array out of order");
  refuse({12346, 0, 1, 0, 0, 1, 16, 0, 5, 5}, "array out of order");
  refuse({12346, 0, 1, 0, 0, 1, 16, 0, 5, 9, 0}, "behind the last container");
  refuse({12346, 0, 1, 0, 4, 1, 16, 0, 5, 9}, "beyond the disk");
  refuse({12346, 0, 2, 0, 1, 0, 1, 0, 24, 0, 26, 0, 5, 9}, "containers out of order");
  refuse({12346, 0, 2, 0, 1, 0, 0, 0, 24, 0, 26, 0, 5, 9}, "containers out of order");
  refuse({12346, 0, 1, 0, 0, 4096, 16, 0, 5, 9}, "truncated bitset");
}

/// Bytes, not words: the run flags are an odd number of them.
Frame run_frame(std::uint8_t flags, const std::vector<std::uint16_t>& words, std::uint64_t count) {
  Frame payload = {std::byte{0x3b}, std::byte{0x30}, std::byte{0}, std::byte{0},
                   static_cast<std::byte>(flags)};
  for (const std::uint16_t word : words) {
    payload.push_back(static_cast<std::byte>(word & 0xff));
    payload.push_back(static_cast<std::byte>(word >> 8));
  }
  Frame frame = frame_of({}, 4096ULL * 65536 * 4, count);
  frame.insert(frame.begin() + format::kHeaderBytes, payload.begin(), payload.end());
  store_le<std::uint64_t>(&frame[format::kPayloadBytesAt], payload.size());
  seal(frame);
  return frame;
}

TEST(BitmapCodec, MalformedRunsAreRefused) {
  EXPECT_TRUE(decode_bitmap(run_frame(1, {0, 9, 1, 5, 9}, 10)).ok());
  EXPECT_TRUE(decode_bitmap(run_frame(1, {3, 0xffff, 1, 0, 0xffff}, 65536)).ok());
  expect_refused(run_frame(1, {0, 9, 1, 5, 8}, 10), ErrorCode::kProtocol, "cardinality");
  expect_refused(run_frame(1, {0, 9, 0}, 10), ErrorCode::kProtocol, "cardinality");
  expect_refused(run_frame(1, {0, 9, 2, 50, 4, 5, 4}, 10), ErrorCode::kProtocol, "out of order");
  expect_refused(run_frame(1, {0, 9, 2, 5, 4, 7, 4}, 10), ErrorCode::kProtocol, "out of order");
  expect_refused(run_frame(1, {0, 9, 2, 5, 4, 10, 4}, 10), ErrorCode::kProtocol, "out of order");
  expect_refused(run_frame(1, {0, 9, 1, 65530, 9}, 10), ErrorCode::kProtocol,
                 "beyond its container");
  expect_refused(run_frame(1, {4, 9, 1, 5, 9}, 10), ErrorCode::kProtocol, "beyond the disk");
  expect_refused(run_frame(1, {0, 9, 2, 5, 9}, 10), ErrorCode::kProtocol, "truncated runs");
  expect_refused(run_frame(1, {0, 9}, 10), ErrorCode::kProtocol, "truncated run count");
  expect_refused(run_frame(3, {0, 9, 1, 5, 9}, 10), ErrorCode::kProtocol, "no container");
}

TEST(BitmapCodec, AWrongBitsetCardinalityIsRefused) {
  const auto bitmap = make(4096ULL * 65536, 4096);
  for (std::uint64_t i = 0; i < 65536; i += 2) bitmap->mark(i * 4096, 1);
  const Frame frame = encode_bitmap(*bitmap);
  // The cardinality less one stands behind cookie, count and key.
  const auto lie = [](Frame& f) {
    store_le<std::uint16_t>(&f[format::kHeaderBytes + 10], 32766);
    store_le<std::uint64_t>(&f[format::kDirtyCountAt], 32767);
  };
  expect_refused(forged(frame, lie), ErrorCode::kProtocol, "bitset and cardinality");
}

TEST(BitmapCodec, RandomForgeriesNeverBreakTheReader) {
  Random random(2024);
  const Frame frame = encode_bitmap(*mixed());
  for (int i = 0; i < 800; ++i) {
    const Frame bad = forged(frame, [&](Frame& f) {
      const std::uint64_t edits = random.between(1, 4);
      for (std::uint64_t k = 0; k < edits; ++k) {
        // The payload's headers are the interesting part.
        const std::uint64_t span = random.chance(3, 4) ? 60 : f.size() - format::kHeaderBytes - 4;
        f[format::kHeaderBytes + random.below(span)] = static_cast<std::byte>(random.next());
      }
    });
    const auto decoded = decode_bitmap(bad);
    if (!decoded.ok()) continue;
    // Accepted: then it is a bitmap like any other, and both its halves agree.
    DirtyLease all = (*decoded)->lease(0, ~std::size_t{0});
    const auto info = frame_info(bad);
    ASSERT_TRUE(info.ok());
    ASSERT_EQ(all.chunks().size(), info->dirty_count);
    ASSERT_EQ((*decoded)->dirty_count(), 0U);
  }
}

}  // namespace
}  // namespace blockmig

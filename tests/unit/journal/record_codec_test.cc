// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/record_codec.h"

#include <gtest/gtest.h>

#include <string>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "blockmig/journal/record_format.h"

namespace blockmig {
namespace {

namespace format = record_format;

DiskRecord disk() { return {"disk0", "file:///a", 7, 1ULL << 40, "nbd://h/b"}; }
JobRecord job() { return {"01J", "disk0", "mirror", "file:///t", "done", 3, R"({"x":1})"}; }

HydrationRecord hydration() {
  return {"disk0", 8, "file:///a", 65536, true, "absent", "mig-1", 5, 7, true};
}
RegionContainer container() { return {3, {std::byte{0x81}, std::byte{0}, std::byte{1}}}; }

/// Makes the checksum right again after a change.
std::string sealed(const std::string& key, std::string value) {
  value.resize(value.size() - format::kCrcBytes);
  char length[4];
  store_le(length, static_cast<std::uint32_t>(key.size()));
  const std::string covered = std::string(length, 4) + key + value;
  char crc[4];
  store_le(crc, crc32c(std::as_bytes(std::span(covered))));
  return value + std::string(crc, 4);
}

TEST(RecordCodec, RoundTrips) {
  EXPECT_EQ(*decode_disk(disk_key("disk0"), *encode_disk(disk())), disk());
  EXPECT_EQ(*decode_job(job_key("01J"), *encode_job(job())), job());
  DiskRecord hydrating = disk();
  hydrating.hydration = "absent.job-1.1";
  EXPECT_EQ(*decode_disk(disk_key("disk0"), *encode_disk(hydrating)), hydrating);
  EXPECT_EQ(*decode_schema(encode_schema(7)), 7U);
  EXPECT_EQ(*decode_hydration(hydration_key("disk0"), *encode_hydration(hydration())), hydration());
  HydrationRecord at_rest = hydration();
  at_rest.base_generation = 12;
  at_rest.hydrate = Hydrate::kNever;
  EXPECT_EQ(*decode_hydration(hydration_key("disk0"), *encode_hydration(at_rest)), at_rest);
  at_rest.hydrate = static_cast<Hydrate>(3);
  EXPECT_FALSE(decode_hydration(hydration_key("disk0"), *encode_hydration(at_rest)).ok());
  const std::string region = *encode_region("d", "n", container());
  EXPECT_EQ(*decode_region(region_key("d", "n", 3), region), container());
  const DiskRecord bare{"d", "", 0, 0, ""};
  EXPECT_EQ(*decode_disk(disk_key("d"), *encode_disk(bare)), bare);
}

TEST(RecordCodec, EveryBitFlipAndEveryCutIsRefused) {
  const std::string value = *encode_disk(disk());
  for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string flipped = value;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    const auto record = decode_disk(disk_key("disk0"), flipped);
    ASSERT_FALSE(record.ok()) << bit;
    ASSERT_EQ(record.error().code(), ErrorCode::kProtocol) << bit;
  }
  for (std::size_t size = 0; size < value.size(); ++size) {
    ASSERT_FALSE(decode_disk(disk_key("disk0"), value.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(decode_disk(disk_key("disk0"), value + '\0').ok());
}

TEST(RecordCodec, AnotherKeyIsRefused) {
  const std::string value = *encode_disk(disk());
  EXPECT_FALSE(decode_disk(disk_key("disk1"), value).ok());
  EXPECT_FALSE(decode_disk(job_key("disk0"), value).ok());
  // Even where the checksum was made for the wrong key.
  const auto moved = decode_disk(disk_key("disk1"), sealed(disk_key("disk1"), value));
  ASSERT_FALSE(moved.ok());
  EXPECT_NE(moved.error().message().find("'disk/disk1'"), std::string::npos);
}

TEST(RecordCodec, AnotherKindIsRefused) {
  const std::string key = disk_key("x");
  JobRecord as_job = job();
  const std::string value = sealed(key, *encode_job(as_job));
  EXPECT_NE(decode_disk(key, value).error().message().find("kind"), std::string::npos);
}

TEST(RecordCodec, ForgedFieldsAreRefused) {
  const std::string key = disk_key("disk0");
  const std::string value = *encode_disk(disk());
  std::string newer = value;
  newer[format::kVersionAt] = 2;
  EXPECT_EQ(decode_disk(key, sealed(key, newer)).error().code(), ErrorCode::kPrecondition);
  std::string zero = value;
  zero[format::kVersionAt] = 0;
  EXPECT_EQ(decode_disk(key, sealed(key, zero)).error().code(), ErrorCode::kProtocol);
  std::string flags = value;
  flags[format::kZeroAt] = 1;
  EXPECT_EQ(decode_disk(key, sealed(key, flags)).error().code(), ErrorCode::kProtocol);
  for (const std::uint64_t length : {6ULL, 1000ULL, ~0ULL, ~0ULL - 7}) {
    std::string wrong = value;
    store_le(&wrong[format::kHeaderBytes], length);  // of the disk's name
    EXPECT_EQ(decode_disk(key, sealed(key, wrong)).error().code(), ErrorCode::kProtocol) << length;
  }
  std::string longer = value;
  longer.insert(longer.size() - format::kCrcBytes, 1, 'x');
  EXPECT_EQ(decode_disk(key, sealed(key, longer)).error().code(), ErrorCode::kProtocol);
  EXPECT_FALSE(decode_schema(encode_schema(0)).ok());
}

TEST(RecordCodec, EveryBitFlipOfARegionOrHydrationIsRefused) {
  const std::string region = *encode_region("d", "n", container());
  for (std::size_t bit = 0; bit < region.size() * 8; ++bit) {
    std::string flipped = region;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_FALSE(check_record(region_key("d", "n", 3), flipped).ok()) << bit;
  }
  const std::string value = *encode_hydration(hydration());
  for (std::size_t bit = 0; bit < value.size() * 8; ++bit) {
    std::string flipped = value;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << (bit % 8)));
    ASSERT_FALSE(check_record(hydration_key("disk0"), flipped).ok()) << bit;
  }
}

TEST(RecordCodec, ARegionUnderAnotherSetOrIndexIsRefused) {
  const std::string value = *encode_region("d", "n", container());
  for (const std::string& key :
       {region_key("d", "n", 4), region_key("d", "m", 3), region_key("e", "n", 3)}) {
    EXPECT_FALSE(decode_region(key, sealed(key, value)).ok()) << key;
  }
  // No pair of names makes the beginning of another pair's keys.
  EXPECT_NE(region_key("d/1:n", "x", 0).find(regions_prefix("d", "n")), 0U);
  EXPECT_FALSE(region_key("a", "b/00000001/c", 0).starts_with(regions_prefix("a", "b")));
}

TEST(RecordCodec, RegionsBeyondTheirLimitsAreRefused) {
  RegionContainer large{0, std::vector<std::byte>(format::kMaxContainerBytes + 1)};
  EXPECT_EQ(encode_region("d", "n", large).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(encode_region("d", "", container()).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(encode_region("", "n", container()).error().code(), ErrorCode::kInvalid);
  RegionChange change{"d", "n", {}, std::vector<std::uint32_t>(kMaxContainersPerChange + 1)};
  EXPECT_EQ(encode_change(change).error().code(), ErrorCode::kInvalid);
  // Trailing zeros are not kept.
  const RegionContainer padded{3, {std::byte{0x81}, std::byte{0}, std::byte{1}, std::byte{0}}};
  EXPECT_EQ(*encode_region("d", "n", padded), *encode_region("d", "n", container()));
}

TEST(RecordCodec, TheLayoutIsTheDocumentedOne) {
  const std::string value = *encode_disk({"d", "", 1, 2, ""});
  ASSERT_EQ(value.size(), 8U + (8 + 1) + 8 + 8 + 8 + 8 + 4);
  EXPECT_EQ(value.substr(0, 17), std::string("D\x01\0\0\x29\0\0\0\x01\0\0\0\0\0\0\0d", 17));
}

}  // namespace
}  // namespace blockmig

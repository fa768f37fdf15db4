// SPDX-License-Identifier: Apache-2.0
// The EXTENDED_HEADERS extension: every reply extended, with the request's offset in it.
#include <gtest/gtest.h>

#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
constexpr std::uint64_t kSize = SessionRig::kDiskBytes;

TEST(ExtendedHeaders, EveryReplyIsExtendedAndEchoesTheOffset) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  EXPECT_EQ(rig.exchange(client, extended_request(kPayloadLen, kWrite, 1, 50, 3, pattern(3, 6))),
            extended_chunk(1, kNone, 1, 50));
  EXPECT_EQ(rig.exchange(client, extended_request(0, kRead, 2, 50, 3)),
            extended_chunk(1, kData, 2, 50, Wire().u64(50).fill(3, 6)));
  EXPECT_EQ(rig.exchange(client, extended_request(0, kRead, 3, 4096, 4096)),
            extended_chunk(1, kHole, 3, 4096, Wire().u64(4096).u32(4096)));
  EXPECT_EQ(rig.exchange(client, extended_request(0, kRead, 4, 99, 0)),
            extended_chunk(1, kNone, 4, 99));
  for (const int type : {kFlush, kTrim, kCache, kWriteZeroes}) {
    EXPECT_EQ(rig.exchange(client, extended_request(0, type, 5, 512, 512)),
              extended_chunk(1, kNone, 5, 512));
  }
}

TEST(ExtendedHeaders, ChunksOfOneReadAllEchoTheRequestsOffset) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  rig.poke(65536, pattern(65536, 5));
  EXPECT_EQ(rig.exchange(client, extended_request(0, kRead, 1, 0, 131072)),
            join({extended_chunk(0, kHole, 1, 0, Wire().u64(0).u32(65536)),
                  extended_chunk(1, kData, 1, 0, Wire().u64(65536).fill(65536, 5))}));
}

TEST(ExtendedHeaders, ErrorsAreExtendedToo) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  EXPECT_EQ(rig.exchange(client, extended_request(0, kTrim, 1, kSize, 1)),
            extended_chunk(1, kError, 1, kSize,
                           error_payload(kEINVAL,
                                         "trim of 1 bytes at offset 1049810 is beyond the "
                                         "end of the export (1049810 bytes)")));
}

TEST(ExtendedHeaders, LengthsAbove32BitsAreServed) {
  SessionRig rig(1, 100ull << 30);
  auto& client = rig.transmitting(Style::kExtended, {}, {"base:allocation"});
  EXPECT_EQ(rig.exchange(client, extended_request(0, kWriteZeroes, 1, 0, 100ull << 30)),
            extended_chunk(1, kNone, 1, 0));
  EXPECT_EQ(rig.spy.last_range, (ByteRange{0, 100ull << 30}));
  EXPECT_EQ(rig.exchange(client, extended_request(0, kBlockStatus, 2, 0, 100ull << 30)),
            extended_chunk(1, kStatusExt, 2, 0, Wire().u32(1).u32(1).u64(100ull << 30).u64(3)));
  EXPECT_EQ(read_be(rig.exchange(client, extended_request(0, kRead, 3, 0, 1ull << 33)), 32, 4),
            kEOVERFLOW);
}

TEST(ExtendedHeaders, StatusChunksAre64BitForShortRequestsToo) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended, {}, {"base:allocation"});
  EXPECT_EQ(rig.exchange(client, extended_request(kReqOne, kBlockStatus, 2, 1, 5)),
            extended_chunk(1, kStatusExt, 2, 1, Wire().u32(1).u32(1).u64(5).u64(3)));
}

TEST(ExtendedHeaders, WriteWithoutPayloadLenIsRefusedAndHasNoPayload) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  const ByteVector answer = rig.exchange(
      client, join({extended_request(0, kWrite, 1, 0, 4), extended_request(0, kFlush, 2, 0, 0)}));
  EXPECT_EQ(read_be(answer, 32, 4), kEINVAL);
  const ByteVector after = extended_chunk(1, kNone, 2, 0);
  EXPECT_TRUE(std::equal(after.begin(), after.end(), answer.end() - 32));
  EXPECT_EQ(rig.spy.writes, 0);
}

TEST(ExtendedHeaders, PayloadWhereNoneBelongsIsConsumedThenRefused) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  for (const int type :
       std::vector<int>{kRead, kFlush, kTrim, kCache, kWriteZeroes, kBlockStatus, 99}) {
    const ByteVector answer = rig.exchange(
        client, join({extended_request(kPayloadLen, type, 1, 0, 5000, pattern(5000, 0x21)),
                      extended_request(0, kFlush, 2, 0, 0)}));
    ASSERT_GE(answer.size(), 70u) << type;
    EXPECT_EQ(read_be(answer, 32, 4), kEINVAL) << type;
    const ByteVector after = extended_chunk(1, kNone, 2, 0);
    EXPECT_TRUE(std::equal(after.begin(), after.end(), answer.end() - 32)) << type;
  }
}

TEST(ExtendedHeaders, PayloadAboveTheMaximumDrops) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  EXPECT_TRUE(
      rig.exchange(client, extended_request(kPayloadLen, kWrite, 1, 0, (32u << 20) + 1)).empty());
  EXPECT_TRUE(client.saw_eof);
  EXPECT_TRUE(client.ended);
}

TEST(ExtendedHeaders, CompactRequestsAreOutOfStep) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kExtended);
  EXPECT_TRUE(rig.exchange(client, join({request(0, kFlush, 1, 0, 0), pattern(4, 0)})).empty());
  EXPECT_TRUE(client.saw_eof);
}

TEST(ExtendedHeaders, StatusPayloadPicksContexts) {
  SessionRig rig;
  rig.disk->add_bitmap("b0", 65536).mark(0, 1);
  auto& client =
      rig.transmitting(Style::kExtended, {}, {"base:allocation", "qemu:dirty-bitmap:b0"});
  const auto ask = [&](const ByteVector& payload) {
    return rig.exchange(client,
                        extended_request(kPayloadLen, kBlockStatus, 1, 0, payload.size(), payload));
  };
  EXPECT_EQ(ask(Wire().u64(65536).u32(2)),
            extended_chunk(1, kStatusExt, 1, 0, Wire().u32(2).u32(1).u64(65536).u64(1)));
  EXPECT_EQ(ask(Wire().u64(65536).u32(2).u32(1)),
            join({extended_chunk(0, kStatusExt, 1, 0, Wire().u32(2).u32(1).u64(65536).u64(1)),
                  extended_chunk(1, kStatusExt, 1, 0, Wire().u32(1).u32(1).u64(65536).u64(3))}));
  const std::vector<std::pair<const char*, ByteVector>> wrong = {
      {"UnknownId", Wire().u64(65536).u32(3)},
      {"DuplicateId", Wire().u64(65536).u32(1).u32(1)},
      {"NoId", Wire().u64(65536)},
      {"CutShort", Wire().u64(65536).u16(1)},
      {"TooShort", Wire().u32(65536)},
      {"BeyondTheEnd", Wire().u64(kSize + 1).u32(1)},
      {"Wraps", Wire().u64(0xffffffffffffffff).u32(1)},
      {"NoLength", Wire().u64(0).u32(1)},
  };
  for (const auto& [name, payload] : wrong) {
    const ByteVector answer = ask(payload);
    ASSERT_GE(answer.size(), 38u) << name;
    EXPECT_EQ(read_be(answer, 6, 2), static_cast<std::uint64_t>(kError)) << name;
    EXPECT_EQ(read_be(answer, 32, 4), kEINVAL) << name;
  }
  EXPECT_EQ(ask(Wire().u64(1).u32(1)),
            extended_chunk(1, kStatusExt, 1, 0, Wire().u32(1).u32(1).u64(1).u64(3)));
}

/// As with every payload this long, the header comes first and the rest slowly.
TEST(ExtendedHeaders, LongPayloadOfAStatusNeverReachesTheDevice_I8) {
  for (const std::uint64_t offset : {std::uint64_t{0}, kSize - 4096}) {
    SessionRig rig;
    auto& client = rig.transmitting(Style::kExtended, {}, {"base:allocation"});
    ByteVector data(200 << 10, std::byte{1});
    rig.send(client, extended_request(kPayloadLen, kBlockStatus, 1, offset, data.size(), {}));
    const ByteVector answer = rig.exchange(client, data);
    ASSERT_GE(answer.size(), 38u);
    EXPECT_EQ(read_be(answer, 6, 2), static_cast<std::uint64_t>(kError));
    EXPECT_EQ(read_be(answer, 32, 4), kEINVAL);
    EXPECT_EQ(rig.spy.writes, 0);
    EXPECT_EQ(rig.peek(0, 4096), ByteVector(4096));
    EXPECT_EQ(rig.exchange(client, extended_request(0, kFlush, 2, 0, 0, {})),
              extended_chunk(1, kNone, 2, 0, {}))
        << "in step";
  }
}

}  // namespace
}  // namespace blockmig::nbd

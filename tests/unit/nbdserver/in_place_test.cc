// SPDX-License-Identifier: Apache-2.0
// Large requests whose bytes go straight from and to where the device has them.
#include <gtest/gtest.h>

#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
constexpr std::size_t kLarge = 300 * 1024;
constexpr std::uint64_t kSize = SessionRig::kDiskBytes;

/// Bytes that are not zeros and tell where they belong.
ByteVector varied(std::size_t size, std::uint8_t seed) {
  ByteVector bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    bytes[i] = static_cast<std::byte>(1 + (i * 7 + i / 251 + seed) % 255);
  }
  return bytes;
}

class InPlaceTest : public testing::Test {
 protected:
  InPlaceTest() {
    rig_.spy.in_place = &rig_.memory;
    rig_.poke(0, varied(kSize, 0x31));
  }
  ByteVector content(std::uint64_t offset, std::size_t length) { return rig_.peek(offset, length); }

  SessionRig rig_;
};

TEST_F(InPlaceTest, ALargeReadIsSentFromWhereItLies) {
  auto& client = rig_.transmitting(Style::kSimple);
  EXPECT_EQ(rig_.exchange(client, request(0, kRead, 1, 4096, kLarge)),
            simple_reply(0, 1, content(4096, kLarge)));
  EXPECT_EQ(rig_.spy.lends, 1);
  EXPECT_EQ(rig_.spy.reads, 0);
}

TEST_F(InPlaceTest, NoChunkIsLongerThanWhatWasAdvertised) {
  rig_.limits.advertised_max_bytes = 4096;
  rig_.spy.mapped = content(0, kSize);
  auto& client = rig_.transmitting(Style::kStructured);
  for (const std::size_t length : {std::size_t{12288}, kLarge / 4096 * 4096}) {
    ByteVector expected;
    for (std::size_t at = 0; at < length; at += 4096) {
      const ByteVector data = Wire().u64(at).add(content(at, 4096));
      expected = join({expected, chunk(at + 4096 == length ? 1 : 0, kData, 1, data)});
    }
    EXPECT_EQ(rig_.exchange(client, request(0, kRead, 1, 0, length)), expected) << length;
  }
}

TEST_F(InPlaceTest, WhatTheClientDoesNotTakeAtOnceIsCopied) {
  auto& client = rig_.transmitting(Style::kSimple, {.capacity_bytes = 70000});
  const ByteVector before = content(0, kLarge);
  rig_.send(client, request(0, kRead, 1, 0, kLarge));
  rig_.poke(0, varied(kLarge, 0x77));  // a later write must not show in part of the answer
  EXPECT_EQ(rig_.receive(client), simple_reply(0, 1, before));
  EXPECT_EQ(rig_.spy.lends, 1);
}

TEST_F(InPlaceTest, EvenAHeaderThatDoesNotFitKeepsTheStreamInStep) {
  for (const std::size_t capacity : {1u, 5u, 16u, 17u, 1000u}) {
    auto& client = rig_.transmitting(Style::kSimple, {.capacity_bytes = capacity});
    EXPECT_EQ(rig_.exchange(client, request(0, kRead, capacity, 0, 40000)),
              simple_reply(0, capacity, content(0, 40000)))
        << capacity;
  }
}

TEST_F(InPlaceTest, AnswersOfManySizesStayInStep) {
  auto& client = rig_.transmitting(Style::kSimple, {.capacity_bytes = 100000});
  ByteVector requests;
  ByteVector answers;
  const std::vector<std::size_t> sizes = {512, 40000, 100, kLarge, 33000, 1, 65536, kLarge, 4096};
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    const std::uint64_t offset = i * 1000;
    requests = join({requests, request(0, kRead, i, offset, sizes[i])});
    answers = join({answers, simple_reply(0, i, content(offset, sizes[i]))});
  }
  EXPECT_EQ(rig_.exchange(client, requests), answers);
  EXPECT_GT(rig_.spy.lends, 0);
}

/// Small reads of one batch, which borrow their bytes from the device until the batch is sent.
class BorrowedTest : public InPlaceTest {
 protected:
  BorrowedTest() { rig_.spy.mapped = content(0, kSize); }
  ByteVector batch_of_reads(unsigned count) {
    ByteVector all;
    for (unsigned i = 0; i < count; ++i) all = join({all, request(0, kRead, i, i * 8192, 4096)});
    return all;
  }
  ByteVector answers(unsigned count) {
    ByteVector all;
    for (unsigned i = 0; i < count; ++i) {
      all = join({all, simple_reply(0, i, content(i * 8192, 4096))});
    }
    return all;
  }
};

TEST_F(BorrowedTest, ABatchOfSmallReadsIsSentFromWhereItLies) {
  auto& client = rig_.transmitting(Style::kSimple);
  EXPECT_EQ(rig_.exchange(client, batch_of_reads(100)), answers(100));
  EXPECT_EQ(rig_.spy.borrows, 100);
  EXPECT_EQ(rig_.spy.reads, 0);
}

TEST_F(BorrowedTest, I2AReadShowsNothingOfAWriteBehindIt) {
  auto& client = rig_.transmitting(Style::kSimple);
  const ByteVector before = content(4096, 8192);
  const ByteVector payload = varied(6000, 0x55);
  EXPECT_EQ(rig_.exchange(client, join({request(0, kRead, 1, 4096, 8192),
                                        request(0, kWrite, 2, 6000, 6000), payload})),
            join({simple_reply(0, 1, before), simple_reply(0, 2)}));
  EXPECT_EQ(content(6000, 6000), payload);
  EXPECT_EQ(rig_.exchange(client, join({request(0, kRead, 3, 6000, 6000),
                                        request(0, kWriteZeroes, 4, 0, 1 << 16)})),
            join({simple_reply(0, 3, payload), simple_reply(0, 4)}));
  const ByteVector tail = content(kSize - 4096, 4096);
  EXPECT_EQ(rig_.exchange(client, join({request(0, kRead, 5, kSize - 4096, 4096),
                                        request(0, kTrim, 6, kSize - 8192, 8192)})),
            join({simple_reply(0, 5, tail), simple_reply(0, 6)}));
}

TEST_F(BorrowedTest, I2WhatTheClientDoesNotTakeAtOnceIsCopied) {
  for (const std::size_t capacity : {1u, 15u, 4111u, 4112u, 4113u, 9000u}) {
    rig_.spy.mapped = content(0, kSize);
    auto& client = rig_.transmitting(Style::kSimple, {.capacity_bytes = capacity});
    rig_.send(client, batch_of_reads(7));
    std::fill(rig_.spy.mapped.begin(), rig_.spy.mapped.end(), std::byte{0xEE});
    ByteVector got;
    while (got.size() < answers(7).size()) {
      const ByteVector more = rig_.receive(client);
      ASSERT_FALSE(more.empty());
      got = join({got, more});
    }
    // With so little room the batch itself arrives in pieces: requests that came later saw the
    // change, whole.
    for (unsigned i = 0; i < 7; ++i) {
      const std::size_t at = i * (16 + 4096) + 16;
      const ByteVector data(got.begin() + static_cast<long>(at),
                            got.begin() + static_cast<long>(at + 4096));
      EXPECT_TRUE(data == content(i * 8192, 4096) || data == ByteVector(4096, std::byte{0xEE}))
          << "capacity " << capacity << " read " << i;
    }
  }
}

TEST_F(BorrowedTest, I10CopiesForASlowClientTakeNoMoreThanTheirBytes) {
  auto& client = rig_.transmitting(Style::kSimple, {.capacity_bytes = 4096});
  rig_.exchange(client, request(0, kRead, 0, 0, 4096));
  const std::size_t before = rig_.loops.home().pool.total_bytes();
  for (int i = 0; i < 8; ++i) rig_.send(client, batch_of_reads(30));
  EXPECT_GT(rig_.spy.borrows, 0);
  EXPECT_LE(rig_.loops.home().pool.total_bytes() - before, std::size_t{1} << 20);
}

TEST_F(BorrowedTest, StructuredAnswersAndHolesStayInStep) {
  auto& client = rig_.transmitting(Style::kStructured);
  rig_.poke(8192, ByteVector(4096));
  rig_.spy.mapped = content(0, kSize);
  const ByteVector got = rig_.exchange(client, batch_of_reads(3));
  EXPECT_EQ(rig_.spy.borrows, 3);
  EXPECT_EQ(rig_.spy.reads, 1) << "zeros are a hole, which read() finds";
  EXPECT_EQ(got.size(), 2 * (20 + 8 + 4096) + 20 + 12);
}

TEST_F(InPlaceTest, WhatBeginsWithZerosIsLookedAtForHoles) {
  rig_.poke(0, ByteVector(65536));
  auto& client = rig_.transmitting(Style::kStructured);
  EXPECT_EQ(rig_.exchange(client, request(0, kRead, 1, 0, 131072)),
            join({chunk(0, kHole, 1, Wire().u64(0).u32(65536)),
                  chunk(1, kData, 1, join({Wire().u64(65536), content(65536, 65536)}))}));
}

TEST_F(InPlaceTest, AStructuredReadInPlaceIsOneChunk) {
  auto& client = rig_.transmitting(Style::kStructured);
  EXPECT_EQ(rig_.exchange(client, request(0, kRead, 1, 512, kLarge)),
            chunk(1, kData, 1, join({Wire().u64(512), content(512, kLarge)})));
  EXPECT_EQ(rig_.spy.lends, 1);
}

TEST_F(InPlaceTest, AManyMegabyteReadIsNotLent) {
  SessionRig rig(1, 8 << 20);
  rig.spy.in_place = &rig.memory;
  auto& client = rig.transmitting(Style::kSimple, {.capacity_bytes = 8 << 20});
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 1, 0, 4 << 20)),
            simple_reply(0, 1, ByteVector(4 << 20)));
  EXPECT_EQ(rig.spy.lends, 0);
}

/// Sends the header, then the payload in pieces of `step` bytes.
void send_slowly(SessionRig& rig, SessionRig::Connection& client, const ByteVector& header,
                 const ByteVector& payload, std::size_t step) {
  rig.send(client, header);
  for (std::size_t at = 0; at < payload.size(); at += step) {
    const std::size_t count = std::min(step, payload.size() - at);
    rig.send(client, ByteVector(payload.begin() + static_cast<long>(at),
                                payload.begin() + static_cast<long>(at + count)));
  }
}

TEST_F(InPlaceTest, I2APayloadIsReceivedWhereItBelongsInWholeSectors) {
  for (const std::size_t step : {777u, 4096u, 100000u, 400000u}) {
    auto& client = rig_.transmitting(Style::kSimple);
    const ByteVector data = varied(kLarge, static_cast<std::uint8_t>(step));
    rig_.spy.fills = 0;
    send_slowly(rig_, client, request(0, kWrite, step, 1024, kLarge), data, step);
    EXPECT_EQ(rig_.receive(client), simple_reply(0, step)) << step;
    EXPECT_EQ(content(1024, kLarge), data) << step;
    EXPECT_GT(rig_.spy.fills, 0) << step;
  }
  EXPECT_EQ(rig_.spy.writes, 0);
  EXPECT_EQ(rig_.spy.torn_sectors, 0);
}

TEST_F(InPlaceTest, AnOddRangeUpToTheOddEndArrivesWhole) {
  auto& client = rig_.transmitting(Style::kSimple);
  const std::uint64_t offset = kSize - kLarge - 1;
  const ByteVector data = varied(kLarge + 1, 0x66);
  send_slowly(rig_, client, request(0, kWrite, 1, offset, kLarge + 1), data, 9999);
  EXPECT_EQ(rig_.receive(client), simple_reply(0, 1));
  EXPECT_EQ(content(offset, kLarge + 1), data);
  EXPECT_EQ(rig_.spy.torn_sectors, 0);
}

TEST_F(InPlaceTest, ADeviceThatStopsInTheMiddleGetsTheRestWritten) {
  rig_.spy.max_fills = 2;
  auto& client = rig_.transmitting(Style::kExtended);
  const ByteVector data = varied(kLarge, 0x44);
  send_slowly(rig_, client, extended_request(kPayloadLen, kWrite, 9, 4096, kLarge), data, 50000);
  EXPECT_EQ(rig_.receive(client), extended_chunk(1, kNone, 9, 4096, {}));
  EXPECT_EQ(content(4096, kLarge), data);
  EXPECT_EQ(rig_.spy.fills, 2);
  EXPECT_EQ(rig_.spy.writes, 1);
}

TEST_F(InPlaceTest, I11AFailureAfterTheMiddleIsTheRequests) {
  rig_.spy.max_fills = 1;
  rig_.spy.fail_writes = ErrorCode::kNoSpace;
  auto& client = rig_.transmitting(Style::kSimple);
  send_slowly(rig_, client, request(0, kWrite, 3, 0, kLarge), varied(kLarge, 1), 50000);
  EXPECT_EQ(rig_.receive(client), simple_reply(kENOSPC, 3));
  EXPECT_EQ(rig_.exchange(client, request(0, kFlush, 4, 0, 0)), simple_reply(0, 4));
}

TEST_F(InPlaceTest, I1FuaIsNeverTakenInPlace) {
  auto& client = rig_.transmitting(Style::kSimple);
  send_slowly(rig_, client, request(kFua, kWrite, 1, 0, kLarge), varied(kLarge, 2), 100000);
  EXPECT_EQ(rig_.receive(client), simple_reply(0, 1));
  EXPECT_EQ(rig_.spy.fills, 0);
  EXPECT_TRUE(rig_.spy.last_write.fua);
}

TEST_F(InPlaceTest, AClientThatVanishesInItsPayloadEndsItsSessionOnly) {
  auto& client = rig_.transmitting(Style::kSimple);
  send_slowly(rig_, client, request(0, kWrite, 1, 0, kLarge), varied(100001, 0x55), 33333);
  client.stream->shutdown();
  rig_.settle();
  EXPECT_TRUE(client.ended);
  EXPECT_EQ(rig_.spy.torn_sectors, 0);
  auto& other = rig_.transmitting(Style::kSimple);
  EXPECT_EQ(rig_.exchange(other, request(0, kRead, 1, 600000, 512)),
            simple_reply(0, 1, content(600000, 512)));
}

}  // namespace
}  // namespace blockmig::nbd

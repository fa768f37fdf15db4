// SPDX-License-Identifier: Apache-2.0
// Commands and replies of a whole session, byte for byte, over an in-memory stream.
#include <gtest/gtest.h>

#include "session_rig.h"
#include "stalled_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
constexpr std::uint64_t kSize = SessionRig::kDiskBytes;

TEST(Transmission, SimpleReadAnswersHeaderAndData) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  rig.poke(100, pattern(5, 0x41));
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 0xfeed, 100, 5)),
            simple_reply(0, 0xfeed, pattern(5, 0x41)));
}

TEST(Transmission, SimpleReadOfZerosIsData) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 1, 0, 4096)),
            simple_reply(0, 1, pattern(4096, 0)));
}

TEST(Transmission, StructuredReadIsOneDataChunkWithDone) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  rig.poke(4096, pattern(4096, 0x42));
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 2, 4096, 4096)),
            chunk(1, kData, 2, Wire().u64(4096).fill(4096, 0x42)));
}

TEST(Transmission, StructuredReadOfZerosIsAHole) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 2, 4096, 8192)),
            chunk(1, kHole, 2, Wire().u64(4096).u32(8192)));
}

TEST(Transmission, DfReadIsOneDataChunkEvenForZeros) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, request(kDf, kRead, 1, 0, 1024)),
            chunk(1, kData, 1, Wire().u64(0).fill(1024, 0)));
  EXPECT_EQ(rig.exchange(client, request(kDf, kRead, 2, 0, 65536)),
            chunk(1, kData, 2, Wire().u64(0).fill(65536, 0)));
}

TEST(Transmission, LargeReadIsSplitIntoDataAndHoles) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  rig.poke(65536 + 10, pattern(1, 9));
  ByteVector middle = pattern(65536, 0);
  middle[10] = std::byte{9};
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 2, 0, 262144)),
            join({chunk(0, kHole, 2, Wire().u64(0).u32(65536)),
                  chunk(0, kData, 2, Wire().u64(65536).add(middle)),
                  chunk(1, kHole, 2, Wire().u64(131072).u32(131072))}));
  EXPECT_EQ(rig.exchange(client, request(kDf, kRead, 3, 0, 262144)).size(), 28u + 262144);
}

TEST(Transmission, ReadOfZeroLengthIsAnEmptySuccess) {
  SessionRig rig;
  auto& simple = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(simple, request(0, kRead, 3, 10, 0)), simple_reply(0, 3));
  auto& structured = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(structured, request(0, kRead, 4, 10, 0)), chunk(1, kNone, 4));
}

TEST(Transmission, RefusedReadIsNeverASimpleReplyOnceStructured) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  const ByteVector beyond = rig.exchange(client, request(0, kRead, 5, kSize, 1));
  EXPECT_EQ(beyond, chunk(1, kError, 5,
                          error_payload(kEINVAL,
                                        "read of 1 bytes at offset 1049810 is beyond the end "
                                        "of the export (1049810 bytes)")));
  EXPECT_EQ(read_be(rig.exchange(client, request(0x8000, kRead, 6, 0, 1)), 20, 4), kEINVAL);
}

TEST(Transmission, FailedReadSendsNoData_I11) {
  SessionRig rig;
  rig.spy.fail_read_at = 5000;
  auto& simple = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(simple, request(0, kRead, 7, 4096, 4096)), simple_reply(kEIO, 7));
  auto& structured = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(structured, request(0, kRead, 8, 4096, 4096)),
            chunk(1, kErrorOffset, 8, Wire().add(error_payload(kEIO, "medium error")).u64(4096)));
  EXPECT_EQ(rig.exchange(structured, request(0, kRead, 9, 0, 500000)),
            chunk(1, kErrorOffset, 9, Wire().add(error_payload(kEIO, "medium error")).u64(0)));
}

TEST(Transmission, LongRequestsReachTheDeviceInPiecesThatItTakes) {
  SessionRig rig;
  rig.spy.mutable_info().max_io_bytes = 10000;
  rig.spy.fail_read_at = 25000;
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, request(0, kWrite, 1, 0, 40000, pattern(40000, 3))),
            simple_reply(0, 1));
  EXPECT_EQ(rig.peek(0, 40001), join({pattern(40000, 3), pattern(1, 0)}));
  EXPECT_EQ(rig.spy.longest_io, 10000u);
  // The error names the piece that failed.
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 2, 0, 40000)),
            chunk(1, kErrorOffset, 2, Wire().add(error_payload(kEIO, "medium error")).u64(20000)));
  rig.spy.fail_read_at = UINT64_MAX;
  EXPECT_EQ(rig.exchange(client, request(0, kRead, 2, 0, 30000)),
            chunk(1, kData, 2, Wire().u64(0).fill(30000, 3)));
  EXPECT_EQ(rig.exchange(client, request(kDf, kRead, 2, 0, 45000)),
            chunk(1, kData, 2, Wire().u64(0).fill(40000, 3).fill(5000, 0)));
}

TEST(Transmission, WriteReachesTheDeviceAndIsAnswered) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, request(0, kWrite, 1, kSize - 3, 3, pattern(3, 0x55))),
            simple_reply(0, 1));
  EXPECT_EQ(rig.peek(kSize - 4, 4), join({pattern(1, 0), pattern(3, 0x55)}));
  EXPECT_FALSE(rig.spy.last_write.fua);
}

TEST(Transmission, FuaReachesTheDevice_I1) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, request(kFua, kWrite, 1, 0, 1, pattern(1, 1))),
            simple_reply(0, 1));
  EXPECT_TRUE(rig.spy.last_write.fua);
  rig.exchange(client, request(0, kTrim, 1, 0, 4096));
  EXPECT_FALSE(rig.spy.last_write.fua);
  rig.exchange(client, request(kFua, kTrim, 1, 0, 4096));
  EXPECT_TRUE(rig.spy.last_write.fua);
  rig.exchange(client, request(kFua, kWriteZeroes, 1, 0, 4096));
  EXPECT_TRUE(rig.spy.last_zero.fua);
  EXPECT_FALSE(rig.spy.last_zero.no_hole);
}

TEST(Transmission, FailedWriteIsAnErrorAndTheStreamStaysInStep) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  for (const auto& [code, wire] :
       {std::pair{ErrorCode::kNoSpace, kENOSPC}, std::pair{ErrorCode::kIo, kEIO},
        std::pair{ErrorCode::kDisconnected, kEIO}, std::pair{ErrorCode::kShutdown, kESHUTDOWN}}) {
    rig.spy.fail_writes = code;
    EXPECT_EQ(rig.exchange(client, request(0, kWrite, 2, 0, 100, pattern(100, 1))),
              chunk(1, kError, 2, error_payload(wire, "the store refuses")));
  }
  rig.spy.fail_writes.reset();
  EXPECT_EQ(rig.exchange(client, request(0, kWrite, 3, 0, 100, pattern(100, 1))),
            simple_reply(0, 3));
}

TEST(Transmission, PayloadOfARefusedWriteIsConsumedBeforeTheAnswer) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  for (const std::uint32_t size : {1u, 5000u, 300000u, 4000000u}) {
    rig.send(client, request(0, kWrite, 4, kSize - 1, size + 1, pattern(size, 0x25)));
    EXPECT_TRUE(rig.receive(client).empty()) << "answered before the payload was whole";
    EXPECT_EQ(rig.exchange(client, join({pattern(1, 0x25), request(0, kFlush, 5, 0, 0)})),
              join({simple_reply(kENOSPC, 4), simple_reply(0, 5)}));
  }
  EXPECT_EQ(rig.spy.writes, 0);
}

TEST(Transmission, LargeWritesArriveWhole) {
  SessionRig rig(1, 8 << 20);
  auto& client = rig.transmitting(Style::kStructured);
  ByteVector data(3 << 20);
  for (std::size_t i = 0; i < data.size(); ++i) data[i] = static_cast<std::byte>(i * 7 + (i >> 9));
  // Behind it a small request in the same breath, and another large one.
  rig.send(client,
           join({request(0, kWrite, 1, 12345, data.size(), data), request(0, kFlush, 2, 0, 0),
                 request(0, kWrite, 3, 5 << 20, 1 << 20, pattern(1 << 20, 8)),
                 request(0, kWrite, 4, 1, 1, pattern(1, 9))}));
  EXPECT_EQ(rig.receive(client),
            join({simple_reply(0, 1), simple_reply(0, 2), simple_reply(0, 3), simple_reply(0, 4)}));
  EXPECT_EQ(rig.peek(12345, data.size()), data);
  EXPECT_EQ(rig.peek(5 << 20, 1 << 20), pattern(1 << 20, 8));
  EXPECT_EQ(rig.peek(0, 3), join({pattern(1, 0), pattern(1, 9), pattern(1, 0)}));
}

TEST(Transmission, FlushReachesTheDeviceAndItsFailureTheClient_I11) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, request(0, kFlush, 6, 0, 0)), simple_reply(0, 6));
  EXPECT_EQ(rig.exchange(client, request(0, kFlush, 7, 99, 99)), simple_reply(0, 7));
  EXPECT_EQ(rig.spy.flushes, 2);
  rig.spy.fail_flush = true;
  EXPECT_EQ(rig.exchange(client, request(0, kFlush, 8, 0, 0)), simple_reply(kEIO, 8));
}

TEST(Transmission, TrimAndZeroesReachTheDeviceWithTheirWholeLength) {
  SessionRig rig(1, 10ull << 30);
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, request(0, kTrim, 1, 4096, 0xfffff000)), simple_reply(0, 1));
  EXPECT_EQ(rig.spy.last_range, (ByteRange{4096, 0xfffff000}));
  EXPECT_EQ(rig.exchange(client, request(0, kWriteZeroes, 2, 8192, 0x80000000)),
            simple_reply(0, 2));
  EXPECT_EQ(rig.spy.last_range, (ByteRange{8192, 0x80000000}));
  EXPECT_FALSE(rig.spy.last_zero.no_hole);
  rig.exchange(client, request(kNoHole, kWriteZeroes, 2, 0, 4096));
  EXPECT_TRUE(rig.spy.last_zero.no_hole);
  EXPECT_FALSE(rig.spy.last_zero.fast_only);
}

TEST(Transmission, WriteZeroesZeroes) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  rig.poke(0, pattern(3000, 0xff));
  EXPECT_EQ(rig.exchange(client, request(0, kWriteZeroes, 1, 1000, 1000)), simple_reply(0, 1));
  EXPECT_EQ(rig.peek(0, 3000), join({pattern(1000, 0xff), pattern(1000, 0), pattern(1000, 0xff)}));
}

TEST(Transmission, FastZeroIsEnotsupOnlyWhereTheDeviceSaysSo) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, request(kFastZero, kWriteZeroes, 1, 0, 4096)), simple_reply(0, 1));
  EXPECT_TRUE(rig.spy.last_zero.fast_only);
  rig.spy.not_fast = true;
  EXPECT_EQ(rig.exchange(client, request(kFastZero, kWriteZeroes, 2, 0, 4096)),
            simple_reply(kENOTSUP, 2));
  EXPECT_EQ(rig.exchange(client, request(0, kWriteZeroes, 3, 0, 4096)), simple_reply(0, 3));
}

TEST(Transmission, CacheTouchesAllOfItsLength) {
  SessionRig rig(1, 40 << 20);
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, request(0, kCache, 1, 100, 40000000)), simple_reply(0, 1));
  EXPECT_EQ(rig.spy.reads, (40000000 + 262143) / 262144);
  rig.spy.fail_read_at = 30000000;
  EXPECT_EQ(rig.exchange(client, request(0, kCache, 2, 0, 40000000)), simple_reply(kEIO, 2));
}

TEST(Transmission, ReadOnlyExportRefusesAndConsumes) {
  SessionRig rig;
  rig.disk->read_only_ = true;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(
      rig.exchange(client,
                   join({request(0, kWrite, 1, 0, 3, pattern(3, 1)), request(0, kTrim, 2, 0, 1),
                         request(0, kWriteZeroes, 3, 0, 1), request(0, kRead, 4, 0, 1)})),
      join({simple_reply(kEPERM, 1), simple_reply(kEPERM, 2), simple_reply(kEPERM, 3),
            simple_reply(0, 4, pattern(1, 0))}));
  EXPECT_EQ(rig.spy.writes + rig.spy.trims + rig.spy.zeroes, 0);
}

TEST(Transmission, UnknownCommandIsRefusedAndTheConnectionGoesOn) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, join({request(0, 77, 1, 0, 500), request(0, kResize, 2, 0, 1),
                                       request(0, kFlush, 3, 0, 0)})),
            join({chunk(1, kError, 1, error_payload(kEINVAL, "command 77 is not supported")),
                  chunk(1, kError, 2, error_payload(kEINVAL, "command 8 is not supported")),
                  simple_reply(0, 3)}));
}

TEST(Transmission, CookiesAreOpaqueAndMayRepeat) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  const std::uint64_t cookie = 0xffffffffffffffff;
  EXPECT_EQ(
      rig.exchange(client, join({request(0, kFlush, cookie, 0, 0), request(0, kFlush, cookie, 0, 0),
                                 request(0, kFlush, 0, 0, 0)})),
      join({simple_reply(0, cookie), simple_reply(0, cookie), simple_reply(0, 0)}));
}

TEST(Transmission, ABatchIsAnsweredWhole) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  Wire requests;
  Wire replies;
  for (std::uint64_t i = 0; i < 500; ++i) {
    requests.add(request(0, kWrite, i, i * 512, 512, pattern(512, static_cast<std::uint8_t>(i))));
    replies.add(simple_reply(0, i));
  }
  for (std::uint64_t i = 0; i < 500; ++i) {
    requests.add(request(0, kRead, i, i * 512, 512));
    replies.add(simple_reply(0, i, pattern(512, static_cast<std::uint8_t>(i))));
  }
  EXPECT_EQ(rig.exchange(client, requests), replies.bytes());
  EXPECT_EQ(client.session->info().requests, 1000u);
  EXPECT_EQ(client.session->info().bytes_read, 256000u);
  EXPECT_EQ(client.session->info().bytes_written, 256000u);
  EXPECT_EQ(client.session->info().in_flight, 0u);
  EXPECT_EQ(client.session->info().export_name, "disk0");
}

TEST(Transmission, OneByteSegmentsGiveTheSameAnswers_Trap20) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured, {.capacity_bytes = 64, .segment_bytes = 1},
                                  {"base:allocation"});
  EXPECT_EQ(rig.exchange(client, join({request(0, kWrite, 1, 10, 300, pattern(300, 4)),
                                       request(0, kRead, 2, 10, 600),
                                       request(0, kWrite, 3, kSize, 70, pattern(70, 4)),
                                       request(kReqOne, kBlockStatus, 4, 0, 65536)})),
            join({simple_reply(0, 1), chunk(1, kData, 2, Wire().u64(10).fill(300, 4).fill(300, 0)),
                  chunk(1, kError, 3,
                        error_payload(kENOSPC,
                                      "write of 70 bytes at offset 1049810 is beyond the "
                                      "end of the export (1049810 bytes)")),
                  chunk(1, kStatus, 4, Wire().u32(1).u32(65536).u32(0))}));
}

TEST(Transmission, RequestsBehindGoAreServed) {
  SessionRig rig;
  auto& client = rig.connect();
  const ByteVector answer =
      rig.exchange(client, join({client_flags(3), option(kOptGo, info_data("disk0", {})),
                                 request(0, kFlush, 1, 0, 0), request(0, kRead, 2, 0, 1)}));
  const ByteVector expected =
      join({option_reply(kOptGo, kRepAck), simple_reply(0, 1), simple_reply(0, 2, pattern(1, 0))});
  ASSERT_GT(answer.size(), expected.size());
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                         answer.end() - static_cast<long>(expected.size())));
}

TEST(Transmission, WritesOfOneConnectionAreSeenAndFlushedByAnother) {
  SessionRig rig;
  auto& first = rig.transmitting(Style::kSimple);
  auto& second = rig.transmitting(Style::kStructured);
  rig.exchange(first, request(0, kWrite, 1, 0, 4, pattern(4, 0x77)));
  EXPECT_EQ(rig.exchange(second, join({request(0, kFlush, 1, 0, 0), request(0, kRead, 2, 0, 4)})),
            join({simple_reply(0, 1), chunk(1, kData, 2, Wire().u64(0).fill(4, 0x77))}));
  EXPECT_EQ(rig.spy.flushes, 1);
}

TEST(Transmission, AFlushMakesWritesOfOtherConnectionsDurable_I1) {
  StalledRig rig;
  auto& writer = rig.client();
  auto& flusher = rig.client();
  const ByteVector data = pattern(4096, 0x77);
  EXPECT_EQ(rig.exchange(writer, request(0, kWrite, 1, 0, 4096, data)), simple_reply(0, 1));
  ByteVector survives(4096);
  rig.store.peek_durable(0, survives);
  ASSERT_NE(survives, data) << "with a store that needs no flush nothing is shown";
  EXPECT_EQ(rig.exchange(flusher, request(0, kFlush, 2, 0, 0)), simple_reply(0, 2));
  rig.store.crash();
  rig.store.peek(0, survives);
  EXPECT_EQ(survives, data);
}

}  // namespace
}  // namespace blockmig::nbd

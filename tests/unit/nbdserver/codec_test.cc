// SPDX-License-Identifier: Apache-2.0
// Requests and replies against the specification's layouts, and the small pure parts around them.
#include <gtest/gtest.h>

#include <array>

#include "blockmig/base/random.h"
#include "nbdserver/block_status.h"
#include "nbdserver/early_replies.h"
#include "nbdserver/reply_codec.h"
#include "nbdserver/request_codec.h"
#include "nbdserver/wire_error.h"
#include "nbdserver/zero_runs.h"
#include "wire_bytes.h"

namespace blockmig::nbd {
namespace {

constexpr HeaderStyle kSimpleStyle = HeaderStyle::kSimple;
constexpr HeaderStyle kStructuredStyle = HeaderStyle::kStructured;
constexpr HeaderStyle kExtendedStyle = HeaderStyle::kExtended;
const Request kRequest{.flags = 0,
                       .command = Command::kRead,
                       .cookie = 0x0102030405060708,
                       .offset = 0x1112131415161718,
                       .length = 5};

template <typename Encode>
ByteVector encoded(Encode encode) {
  ByteVector out(4096, std::byte{0xee});
  const std::size_t size = encode(out.data());
  // Nothing is written behind what is said to be written.
  for (std::size_t i = size; i < out.size(); ++i) EXPECT_EQ(out[i], std::byte{0xee});
  out.resize(size);
  return out;
}

TEST(RequestCodec, CompactRequestIsDecodedFieldByField) {
  const auto decoded = decode_request(
      request(0x8001, 6, 0xf1f2f3f4f5f6f7f8, 0xffffffffffffffff, 0xfffffffe), kStructuredStyle);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(*decoded, (Request{0x8001, Command::kWriteZeroes, 0xf1f2f3f4f5f6f7f8,
                               0xffffffffffffffff, 0xfffffffe}));
}

TEST(RequestCodec, ExtendedRequestHas64BitLengths) {
  const auto decoded =
      decode_request(extended_request(32, 1, 7, 8, 0xfffffffffffffff0), kExtendedStyle);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->length, 0xfffffffffffffff0);
  EXPECT_EQ(payload_bytes(*decoded, kExtendedStyle), 0xfffffffffffffff0);
}

TEST(RequestCodec, TheMagicOfTheOtherStyleIsWrong) {
  EXPECT_FALSE(decode_request(join({request(0, 0, 1, 2, 3), pattern(4, 0)}), kExtendedStyle));
  EXPECT_FALSE(decode_request(extended_request(0, 0, 1, 2, 3), kSimpleStyle));
  EXPECT_FALSE(decode_request(pattern(28, 0xff), kStructuredStyle));
}

TEST(RequestCodec, WholeRequestsAreCountedWithTheirPayload) {
  const ByteVector read = request(0, 0, 1, 0, 4096);
  const ByteVector write = join({request(0, 1, 2, 0, 100), pattern(100, 1)});
  EXPECT_EQ(count_requests(join({read, write, read}), kStructuredStyle, 9), 3u);
  EXPECT_EQ(count_requests(join({read, write, read}), kStructuredStyle, 2), 2u);
  const ByteVector cut = join({read, request(0, 1, 2, 0, 100), pattern(99, 1)});
  EXPECT_EQ(count_requests(cut, kStructuredStyle, 9), 1u);
  EXPECT_EQ(count_requests(join({read, pattern(28, 0xff)}), kStructuredStyle, 9), 1u);
  EXPECT_EQ(count_requests(ByteVector(), kStructuredStyle, 9), 0u);
  const ByteVector extended = extended_request(32, 1, 7, 8, 0xfffffffffffffff0);
  EXPECT_EQ(count_requests(extended, kExtendedStyle, 9), 0u);
}

/// After how many of `count` reads replies were sent.
std::vector<std::uint32_t> sends(std::uint32_t count) {
  ByteVector batch;
  for (std::uint32_t i = 0; i < count; ++i) batch = join({batch, request(0, 0, i, 0, 4096)});
  EarlyReplies early(batch, kStructuredStyle);
  std::vector<std::uint32_t> after;
  std::uint32_t pending = 0;
  for (std::uint32_t served = 1; served <= count; ++served) {
    ++pending;
    if (!early.due(pending, pending * std::size_t{20}, (count - served) * std::size_t{28}))
      continue;
    after.push_back(served);
    pending = 0;
  }
  return after;
}

TEST(EarlyReplies, ABatchGoesInHalvesThatAreWorthASend) {
  EXPECT_EQ(sends(1), (std::vector<std::uint32_t>{}));
  EXPECT_EQ(sends(8), (std::vector<std::uint32_t>{5}));
  EXPECT_EQ(sends(16), (std::vector<std::uint32_t>{8, 16}));
  EXPECT_EQ(sends(40), (std::vector<std::uint32_t>{21}));
}

TEST(EarlyReplies, MuchDataIsNotHeldBack) {
  EarlyReplies early(ByteVector(28), kStructuredStyle);
  EXPECT_FALSE(early.due(1, EarlyReplies::kBytes - 1, 0));
  EXPECT_TRUE(early.due(1, EarlyReplies::kBytes, 0));
}

TEST(RequestCodec, PayloadFollowsCompactWritesAndExtendedPayloadLenOnly) {
  Request each{.command = Command::kWrite, .length = 9};
  EXPECT_EQ(payload_bytes(each, kSimpleStyle), 9u);
  EXPECT_EQ(payload_bytes(each, kExtendedStyle), 0u);
  each.flags = kPayloadLen;
  EXPECT_EQ(payload_bytes(each, kExtendedStyle), 9u);
  each.command = static_cast<Command>(0x1234);
  EXPECT_EQ(payload_bytes(each, kExtendedStyle), 9u);
  EXPECT_EQ(payload_bytes(each, kStructuredStyle), 0u);
}

TEST(RequestCodec, StatusFilterNeedsALengthAndAtLeastOneId) {
  for (const std::size_t size : {0u, 1u, 8u, 11u, 13u, 15u}) {
    EXPECT_FALSE(decode_status_filter(pattern(size, 0))) << size;
  }
  const ByteVector payload = Wire().u64(0x100000000).u32(7).u32(9);
  const auto filter = decode_status_filter(payload);
  ASSERT_TRUE(filter);
  EXPECT_EQ(filter->effect_length, 0x100000000u);
  EXPECT_EQ(filter->context_ids, (std::vector<std::uint32_t>{7, 9}));
}

TEST(ReplyCodec, SuccessIsSimpleExceptWithExtendedHeaders) {
  for (const HeaderStyle style : {kSimpleStyle, kStructuredStyle}) {
    EXPECT_EQ(encoded([&](std::byte* out) { return encode_success(out, kRequest, style); }),
              simple_reply(0, kRequest.cookie));
  }
  EXPECT_EQ(encoded([&](std::byte* out) { return encode_success(out, kRequest, kExtendedStyle); }),
            extended_chunk(1, kNone, kRequest.cookie, kRequest.offset));
}

TEST(ReplyCodec, AnEmptyReadIsNeverSimpleOnceStructured) {
  const auto reply = [](HeaderStyle style) {
    return encoded([&](std::byte* out) { return encode_empty_read(out, kRequest, style); });
  };
  EXPECT_EQ(reply(kSimpleStyle), simple_reply(0, kRequest.cookie));
  EXPECT_EQ(reply(kStructuredStyle), chunk(1, kNone, kRequest.cookie));
  EXPECT_EQ(reply(kExtendedStyle), extended_chunk(1, kNone, kRequest.cookie, kRequest.offset));
}

TEST(ReplyCodec, ErrorsCarryTheirTextAndOffset) {
  const std::uint64_t at = 0x77;
  const auto reply = [&](HeaderStyle style, const std::uint64_t* offset) {
    return encoded([&](std::byte* out) {
      return encode_error(out, kRequest, style, WireError::kNoSpc, "no room", offset);
    });
  };
  EXPECT_EQ(reply(kSimpleStyle, nullptr), simple_reply(kENOSPC, kRequest.cookie));
  EXPECT_EQ(reply(kStructuredStyle, nullptr),
            chunk(1, kError, kRequest.cookie, error_payload(kENOSPC, "no room")));
  EXPECT_EQ(reply(kStructuredStyle, &at),
            chunk(1, kErrorOffset, kRequest.cookie,
                  Wire().add(error_payload(kENOSPC, "no room")).u64(0x77)));
  EXPECT_EQ(reply(kExtendedStyle, &at),
            extended_chunk(1, kErrorOffset, kRequest.cookie, kRequest.offset,
                           Wire().add(error_payload(kENOSPC, "no room")).u64(0x77)));
}

TEST(ReplyCodec, LongErrorTextsAreCutAtACharacter) {
  std::string text;
  while (text.size() < 2 * kMaxErrorTextBytes) text += "\xe2\x82\xac";
  const ByteVector reply = encoded([&](std::byte* out) {
    return encode_error(out, kRequest, kStructuredStyle, WireError::kIo, text);
  });
  const std::size_t size = read_be(reply, 24, 2);
  EXPECT_LE(size, kMaxErrorTextBytes);
  EXPECT_GT(size, kMaxErrorTextBytes - 3);
  EXPECT_TRUE(is_wire_string(read_text(reply, 26, size)));
  EXPECT_EQ(reply.size(), 26 + size);
  EXPECT_LE(reply.size(), kMaxErrorBytes);
}

TEST(ReplyCodec, DataHeadersHolesAndStatusFollowTheLayouts) {
  const auto data = [](HeaderStyle style) {
    return encoded(
        [&](std::byte* out) { return encode_data_header(out, kRequest, style, 0x20, 5, true); });
  };
  EXPECT_EQ(data(kSimpleStyle), simple_reply(0, kRequest.cookie));
  EXPECT_EQ(join({data(kStructuredStyle), pattern(5, 1)}),
            chunk(1, kData, kRequest.cookie, Wire().u64(0x20).fill(5, 1)));
  EXPECT_EQ(
      join({data(kExtendedStyle), pattern(5, 1)}),
      extended_chunk(1, kData, kRequest.cookie, kRequest.offset, Wire().u64(0x20).fill(5, 1)));
  EXPECT_EQ(encoded([](std::byte* out) {
              return encode_hole(out, kRequest, kStructuredStyle, 0x20, 0xffffffff, false);
            }),
            chunk(0, kHole, kRequest.cookie, Wire().u64(0x20).u32(0xffffffff)));
  const std::array<StatusExtent, 2> extents{StatusExtent{0xfffff000, 3}, StatusExtent{512, 0}};
  EXPECT_EQ(
      encoded([&](std::byte* out) {
        return encode_block_status(out, kRequest, kStructuredStyle, 9, extents, false);
      }),
      chunk(0, kStatus, kRequest.cookie, Wire().u32(9).u32(0xfffff000).u32(3).u32(512).u32(0)));
  const std::array<StatusExtent, 1> long_extent{StatusExtent{0x100000000, 1}};
  EXPECT_EQ(encoded([&](std::byte* out) {
              return encode_block_status(out, kRequest, kExtendedStyle, 9, long_extent, true);
            }),
            extended_chunk(1, kStatusExt, kRequest.cookie, kRequest.offset,
                           Wire().u32(9).u32(1).u64(0x100000000).u64(1)));
}

TEST(ReplyCodec, HeaderSizesAreWhatIsWritten) {
  for (const HeaderStyle style : {kSimpleStyle, kStructuredStyle, kExtendedStyle}) {
    EXPECT_EQ(encoded([&](std::byte* out) {
                return encode_data_header(out, kRequest, style, 0, 1, true);
              }).size(),
              data_header_bytes(style));
    EXPECT_LE(data_header_bytes(style), kMaxHeaderBytes);
  }
}

TEST(WireString, OnlyWellFormedUtf8WithoutNul) {
  for (const char* good :
       {"", "disk0", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x92\xbe", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_wire_string(good)) << good;
  }
  for (const std::string& bad :
       {std::string("a\0b", 3), std::string("\x80"), std::string("\xc0\x80"), std::string("\xc3"),
        std::string("\xed\xa0\x80"), std::string("\xf4\x90\x80\x80"),
        std::string("\xf8\x88\x80\x80\x80"), std::string("\xe2\x82"), std::string("\xe0\x80\x80"),
        std::string("\xe2\x28\xa1")}) {
    EXPECT_FALSE(is_wire_string(bad)) << bad;
  }
}

TEST(WireErrors, EveryCodeHasOneAndUnknownOnesAreEio_I11) {
  EXPECT_EQ(wire_error(ErrorCode::kNoSpace, false), WireError::kNoSpc);
  EXPECT_EQ(wire_error(ErrorCode::kInvalid, false), WireError::kInval);
  EXPECT_EQ(wire_error(ErrorCode::kReadOnly, false), WireError::kPerm);
  EXPECT_EQ(wire_error(ErrorCode::kShutdown, false), WireError::kShutdown);
  EXPECT_EQ(wire_error(ErrorCode::kNoMemory, false), WireError::kNoMem);
  EXPECT_EQ(wire_error(ErrorCode::kOverflow, false), WireError::kOverflow);
  for (const ErrorCode code :
       {ErrorCode::kIo, ErrorCode::kBusy, ErrorCode::kTimedOut, ErrorCode::kCancelled,
        ErrorCode::kDisconnected, ErrorCode::kProtocol, ErrorCode::kNotFound}) {
    EXPECT_EQ(wire_error(code, false), WireError::kIo);
  }
}

TEST(WireErrors, NotSupportedIsForFastZeroAlone) {
  EXPECT_EQ(wire_error(ErrorCode::kNotSupported, true), WireError::kNotSup);
  EXPECT_EQ(wire_error(ErrorCode::kNotSupported, false), WireError::kInval);
}

std::vector<StatusExtent> status(const StatusRange& range, const std::vector<Extent>& extents) {
  return allocation_status(range, extents);
}
using Extents = std::vector<StatusExtent>;

TEST(BlockStatus, JoinsEqualNeighboursAndCutsToTheRange) {
  EXPECT_EQ(status({100, 50, 1, false},
                   {{100, 10, true, true}, {110, 10, true, true}, {120, 100, false, false}}),
            (Extents{{20, 3}, {30, 0}}));
}

TEST(BlockStatus, ReqOneGivesOneDescriptorWithinTheRequest) {
  EXPECT_EQ(status({0, 50, 1, true}, {{0, 10, true, true}, {10, 90, false, false}}),
            (Extents{{10, 3}}));
  EXPECT_EQ(status({0, 50, 1, true}, {{0, 100, false, true}}), (Extents{{50, 2}}));
}

TEST(BlockStatus, BlocksOfMixedStatusClaimNothing) {
  EXPECT_EQ(status({0, 4096, 512, false},
                   {{0, 700, true, true}, {700, 800, false, false}, {1500, 2596, true, true}}),
            (Extents{{512, 3}, {1024, 0}, {2560, 3}}));
}

TEST(BlockStatus, ManySmallRunsInOneBlockAreOneDescriptor) {
  EXPECT_EQ(status({0, 1024, 512, false}, {{0, 100, true, true},
                                           {100, 100, false, true},
                                           {200, 312, true, true},
                                           {512, 512, false, true}}),
            (Extents{{1024, 2}}));
}

TEST(BlockStatus, AnOddTailIsReported) {
  EXPECT_EQ(status({512, 700, 512, false}, {{512, 700, false, true}}), (Extents{{700, 2}}));
  EXPECT_EQ(status({512, 100, 512, true}, {{512, 100, true, false}}), (Extents{{100, 1}}));
}

TEST(BlockStatus, APrefixMayBeShorterThanTheRange) {
  EXPECT_EQ(status({0, 10000, 512, false}, {{0, 1000, true, true}}), (Extents{{512, 3}}));
}

TEST(BlockStatus, ABrokenAnswerOfTheDeviceIsNone) {
  EXPECT_TRUE(status({0, 100, 1, false}, {}).empty());
  EXPECT_TRUE(status({0, 100, 1, false}, {{10, 90, false, false}}).empty());
  EXPECT_TRUE(status({0, 100, 1, false}, {{0, 10, false, false}, {20, 80, false, false}}).empty());
  EXPECT_TRUE(status({0, 100, 1, false}, {{0, 0, false, false}}).empty());
}

TEST(BlockStatus, DepthIsOneWhereSomethingIsAllocated) {
  const std::vector<Extent> extents = {
      {0, 100, true, true}, {100, 100, false, true}, {200, 200, true, true}};
  EXPECT_EQ(depth_status({0, 400, 1, false}, extents), (Extents{{100, 0}, {100, 1}, {200, 0}}));
  EXPECT_EQ(depth_status({0, 400, 128, false}, extents), (Extents{{256, 1}, {144, 0}}));
}

TEST(BlockStatus, DirtyRunsBecomeFlags) {
  const std::vector<DirtyBitmap::Run> runs = {{{0, 100}, false}, {{100, 100}, true}};
  EXPECT_EQ(dirty_status({0, 200, 1, false}, runs), (Extents{{100, 0}, {100, 1}}));
  // A block with anything dirty in it is dirty.
  EXPECT_EQ(dirty_status({0, 200, 128, false}, runs), (Extents{{200, 1}}));
}

/// Runs against a byte-wise check of everything they promise.
TEST(ZeroRuns, CoverTheDataInOrderAndCallOnlyZerosHoles) {
  Random random(7);
  for (int round = 0; round < 200; ++round) {
    const std::size_t size = random.between(1, 400 * 1024);
    const std::uint64_t offset = random.below(1 << 20);
    const std::size_t longest = random.chance(1, 2) ? SIZE_MAX : random.between(1000, 300000);
    ByteVector data(size);
    for (int spots = static_cast<int>(random.below(5)); spots > 0; --spots) {
      data[random.below(size)] = std::byte{1};
    }
    ZeroRuns runs(data, offset, longest);
    std::size_t at = 0;
    bool was_zero = false;
    while (const auto run = runs.next()) {
      ASSERT_EQ(run->begin, at);
      ASSERT_GT(run->length, 0u);
      ASSERT_LE(run->length, longest);
      if (run->zero) {
        ASSERT_TRUE(is_all_zero(ConstBytes(data).subspan(run->begin, run->length)));
      }
      if (at != 0 && longest == SIZE_MAX) {
        ASSERT_NE(run->zero, was_zero);
      }
      was_zero = run->zero;
      at += run->length;
    }
    ASSERT_EQ(at, size);
  }
}

TEST(ZeroRuns, SplitAtBlocksOfTheExport) {
  ByteVector data(192 * 1024);
  data[0] = std::byte{1};
  ZeroRuns runs(data, 60 * 1024, SIZE_MAX);
  const auto first = runs.next();
  ASSERT_TRUE(first);
  EXPECT_EQ(first->length, 4u * 1024);
  EXPECT_FALSE(first->zero);
  EXPECT_TRUE(runs.next()->zero);
  EXPECT_FALSE(runs.next());
}

}  // namespace
}  // namespace blockmig::nbd

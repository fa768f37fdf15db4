// SPDX-License-Identifier: Apache-2.0
// The table of what becomes of a request, by its header alone.
#include "nbdserver/request_rules.h"

#include <gtest/gtest.h>

#include <string>

#include "wire_bytes.h"

namespace blockmig::nbd {
namespace {

constexpr std::uint64_t kSize = 100 * 4096 + 100;
constexpr std::uint64_t kHuge = 0xffffffffffffffff;

TransmissionRules rules(HeaderStyle style) {
  TransmissionRules all;
  all.style = style;
  all.facts.size_bytes = kSize;
  all.facts.can_fast_zero = true;
  all.has_contexts = true;
  return all;
}

struct Case {
  const char* name;
  int flags;
  int type;
  std::uint64_t offset;
  std::uint64_t length;
  std::uint32_t error;  ///< 0: served
};

Verdict judge(const Case& each, const TransmissionRules& all) {
  Request made;
  made.flags = static_cast<std::uint16_t>(each.flags);
  made.command = static_cast<Command>(each.type);
  made.offset = each.offset;
  made.length = each.length;
  return judge_request(made, all);
}

void expect_all(const std::vector<Case>& cases, const TransmissionRules& all) {
  for (const Case& each : cases) {
    const Verdict verdict = judge(each, all);
    EXPECT_EQ(static_cast<std::uint32_t>(verdict.error), each.error) << each.name;
    EXPECT_EQ(verdict.action, each.error == 0 ? Verdict::Action::kServe : Verdict::Action::kRefuse)
        << each.name;
    Request shown{static_cast<std::uint16_t>(each.flags), static_cast<Command>(each.type), 1,
                  each.offset, each.length};
    if (each.error != 0) {
      EXPECT_FALSE(refusal_text(verdict.refusal, shown, all).empty()) << each.name;
    }
  }
}

const std::vector<Case> kRangeCases = {
    {"ReadAll", 0, kRead, 0, kSize, 0},
    {"ReadLastByte", 0, kRead, kSize - 1, 1, 0},
    {"ReadAcrossTheEnd", 0, kRead, kSize - 1, 2, kEINVAL},
    {"ReadBeyondTheEnd", 0, kRead, kSize, 1, kEINVAL},
    {"ReadWraps", 0, kRead, kHuge - 1, 4096, kEINVAL},
    {"ReadNothing", 0, kRead, 0, 0, 0},
    {"ReadNothingAtTheEnd", 0, kRead, kSize, 0, 0},
    {"ReadNothingBeyondTheEnd", 0, kRead, kSize + 1, 0, kEINVAL},
    {"WriteLastByte", 0, kWrite, kSize - 1, 1, 0},
    {"WriteAcrossTheEnd", 0, kWrite, kSize - 1, 2, kENOSPC},
    {"WriteBeyondTheEnd", 0, kWrite, kSize, 1, kENOSPC},
    {"WriteWraps", 0, kWrite, kHuge, 1, kENOSPC},
    {"WriteNothing", 0, kWrite, 0, 0, 0},
    {"TrimAll", 0, kTrim, 0, kSize, 0},
    {"TrimAcrossTheEnd", 0, kTrim, kSize - 1, 2, kEINVAL},
    {"TrimWraps", 0, kTrim, kHuge - 2, 0xffffffff, kEINVAL},
    {"ZeroAll", 0, kWriteZeroes, 0, kSize, 0},
    {"ZeroAcrossTheEnd", 0, kWriteZeroes, kSize - 1, 2, kENOSPC},
    {"ZeroWraps", 0, kWriteZeroes, kHuge - 2, 0xffffffff, kENOSPC},
    {"CacheAll", 0, kCache, 0, kSize, 0},
    {"CacheAcrossTheEnd", 0, kCache, 1, kSize, kEINVAL},
    {"CacheWraps", 0, kCache, kHuge, 2, kEINVAL},
    {"StatusAll", 0, kBlockStatus, 0, kSize, 0},
    {"StatusAcrossTheEnd", 0, kBlockStatus, 1, kSize, kEINVAL},
    {"StatusOfNothing", 0, kBlockStatus, 0, 0, kEINVAL},
    {"StatusOf4GiBMinusOne", 0, kBlockStatus, 0, 0xffffffff, kEINVAL},
    {"FlushWithRange", 0, kFlush, kHuge, 7, 0},
    {"Flush", 0, kFlush, 0, 0, 0},
    {"Resize", 0, kResize, 0, kSize, kEINVAL},
    {"UnknownCommand", 0, 9, 0, 0, kEINVAL},
    {"UnknownCommand65535", 0, 65535, 0, 0, kEINVAL},
};

TEST(RequestRules, RangesAndCommands) {
  expect_all(kRangeCases, rules(HeaderStyle::kSimple));
  expect_all(kRangeCases, rules(HeaderStyle::kStructured));
}

TEST(RequestRules, FlagsAreLegalWhereTheyAreDocumented) {
  const std::vector<Case> cases = {
      {"FuaRead", kFua, kRead, 0, 1, 0},
      {"FuaWrite", kFua, kWrite, 0, 1, 0},
      {"FuaFlush", kFua, kFlush, 0, 0, 0},
      {"FuaTrim", kFua, kTrim, 0, 1, 0},
      {"FuaCache", kFua, kCache, 0, 1, 0},
      {"FuaZeroes", kFua, kWriteZeroes, 0, 1, 0},
      {"FuaStatus", kFua, kBlockStatus, 0, 1, 0},
      {"DfRead", kDf, kRead, 0, 1, 0},
      {"DfWrite", kDf, kWrite, 0, 1, kEINVAL},
      {"NoHoleZeroes", kNoHole, kWriteZeroes, 0, 1, 0},
      {"NoHoleTrim", kNoHole, kTrim, 0, 1, kEINVAL},
      {"FastZeroes", kFastZero | kNoHole | kFua, kWriteZeroes, 0, 1, 0},
      {"FastTrim", kFastZero, kTrim, 0, 1, kEINVAL},
      {"ReqOneStatus", kReqOne, kBlockStatus, 0, 1, 0},
      {"ReqOneRead", kReqOne, kRead, 0, 1, kEINVAL},
      {"PayloadLenWithCompactHeaders", kPayloadLen, kWrite, 0, 1, kEINVAL},
      {"PayloadLenStatusWithCompactHeaders", kPayloadLen, kBlockStatus, 0, 1, kEINVAL},
      {"UnknownFlag", 0x40, kRead, 0, 1, kEINVAL},
      {"AllFlags", 0xffff, kFlush, 0, 0, kEINVAL},
  };
  expect_all(cases, rules(HeaderStyle::kStructured));
}

TEST(RequestRules, DfIsIllegalWithoutStructuredReplies) {
  expect_all({{"Df", kDf, kRead, 0, 1, kEINVAL}}, rules(HeaderStyle::kSimple));
}

TEST(RequestRules, ReadOnlyExportsRefuseChangesWithEperm) {
  TransmissionRules all = rules(HeaderStyle::kStructured);
  all.facts.read_only = true;
  expect_all({{"Write", 0, kWrite, 0, 1, kEPERM},
              {"WriteBeyondTheEnd", 0, kWrite, kSize, 1, kEPERM},
              {"Zeroes", 0, kWriteZeroes, 0, 1, kEPERM},
              {"Trim", 0, kTrim, 0, 1, kEPERM},
              {"Read", 0, kRead, 0, 1, 0},
              {"Flush", 0, kFlush, 0, 0, 0}},
             all);
}

TEST(RequestRules, AlignmentToTheMinimumBlockIsEnforced) {
  TransmissionRules all = rules(HeaderStyle::kStructured);
  all.facts.minimum_block = 512;
  expect_all({{"ReadOffset", 0, kRead, 1, 512, kEINVAL},
              {"ReadLength", 0, kRead, 512, 100, kEINVAL},
              {"ReadAligned", 0, kRead, 512, 1024, 0},
              {"WriteOffset", 0, kWrite, 511, 512, kEINVAL},
              {"ZeroesLength", 0, kWriteZeroes, 0, 513, kEINVAL},
              {"TrimOffset", 0, kTrim, 256, 512, kEINVAL},
              {"CacheLength", 0, kCache, 0, 1, kEINVAL},
              {"StatusOffset", 0, kBlockStatus, 1, 512, kEINVAL},
              {"StatusLengthIsAHint", 0, kBlockStatus, 512, 700, 0},
              {"StatusOfLess", 0, kBlockStatus, 512, 100, 0},
              {"OneExtentWithinABlock", kReqOne, kBlockStatus, 512, 511, kEINVAL},
              {"OneExtentOfABlock", kReqOne, kBlockStatus, 512, 512, 0}},
             all);
}

TEST(RequestRules, WhatWasNotOfferedIsRefused) {
  TransmissionRules all = rules(HeaderStyle::kStructured);
  all.facts.can_trim = false;
  all.has_contexts = false;
  expect_all({{"Trim", 0, kTrim, 0, 1, kEINVAL}, {"Status", 0, kBlockStatus, 0, 1, kEINVAL}}, all);
}

TEST(RequestRules, FastZeroOnASlowDeviceIsEnotsupAtOnce) {
  TransmissionRules all = rules(HeaderStyle::kStructured);
  all.facts.can_fast_zero = false;
  expect_all({{"Fast", kFastZero, kWriteZeroes, 0, 1, kENOTSUP},
              {"Slow", 0, kWriteZeroes, 0, 1, 0},
              {"FastBeyondTheEnd", kFastZero, kWriteZeroes, kSize, 1, kENOSPC}},
             all);
}

TEST(RequestRules, LongReads) {
  constexpr std::uint64_t kMiB32 = 32u << 20;
  TransmissionRules all = rules(HeaderStyle::kStructured);
  all.facts.size_bytes = 1ull << 40;
  expect_all({{"AtTheMaximum", kDf, kRead, 0, kMiB32, 0},
              {"DfAbove", kDf, kRead, 0, kMiB32 + 1, kEOVERFLOW},
              {"SplitAbove", 0, kRead, 0, kMiB32 * 2, 0},
              {"TooLong", 0, kRead, 0, kMiB32 * 2 + 1, kEOVERFLOW},
              {"LongZeroes", 0, kWriteZeroes, 0, 0xffffffff, 0},
              {"LongTrim", 0, kTrim, 0, 0xffffffff, 0},
              {"LongCache", 0, kCache, 0, 0xffffffff, 0},
              {"LongStatus", 0, kBlockStatus, 0, 0xffffffff, 0}},
             all);
  all.style = HeaderStyle::kSimple;
  expect_all({{"SimpleAtTheMaximum", 0, kRead, 0, kMiB32, 0},
              {"SimpleAbove", 0, kRead, 0, kMiB32 + 1, kEOVERFLOW}},
             all);
}

TEST(RequestRules, SixtyFourMiBWritesAreServedAndAbsurdOnesDrop) {
  TransmissionRules all = rules(HeaderStyle::kStructured);
  all.facts.size_bytes = 1ull << 40;
  expect_all({{"64MiB", 0, kWrite, 0, 64u << 20, 0}}, all);
  EXPECT_EQ(judge({"", 0, kWrite, 0, (64u << 20) + 1, 0}, all).action, Verdict::Action::kDrop);
  all.style = HeaderStyle::kExtended;
  expect_all({{"32MiB", kPayloadLen, kWrite, 0, 32u << 20, 0}}, all);
  EXPECT_EQ(judge({"", kPayloadLen, kWrite, 0, (32u << 20) + 1, 0}, all).action,
            Verdict::Action::kDrop);
  EXPECT_EQ(judge({"", kPayloadLen, kFlush, 0, kHuge, 0}, all).action, Verdict::Action::kDrop);
}

TEST(RequestRules, WhatIsAdvertisedIsTakenWhateverTheLimit) {
  TransmissionRules all = rules(HeaderStyle::kSimple);
  all.facts.size_bytes = 1ull << 40;
  all.facts.maximum_payload = 1 << 20;
  all.max_request_bytes = 64 << 10;
  expect_all({{"Advertised", 0, kWrite, 0, 1 << 20, 0}}, all);
  // Up to 32 MiB is never abuse: it is taken from the connection, and refused.
  expect_all({{"Above", 0, kWrite, 0, (1 << 20) + 1, kEOVERFLOW},
              {"NoAbuse", 0, kWrite, 0, 32u << 20, kEOVERFLOW}},
             all);
  EXPECT_EQ(judge({"", 0, kWrite, 0, (32u << 20) + 1, 0}, all).action, Verdict::Action::kDrop);
}

TEST(RequestRules, ExtendedPayloadFlagRules) {
  TransmissionRules all = rules(HeaderStyle::kExtended);
  expect_all({{"WriteWithoutIt", 0, kWrite, 0, 1, kEINVAL},
              {"WriteWithIt", kPayloadLen, kWrite, 0, 1, 0},
              {"ReadWithIt", kPayloadLen, kRead, 0, 1, kEINVAL},
              {"FlushWithIt", kPayloadLen, kFlush, 0, 1, kEINVAL},
              {"StatusWithIt", kPayloadLen, kBlockStatus, 0, 12, 0},
              {"StatusOfAllContexts", kPayloadLen, kBlockStatus, 0, 8 + 4 * 64, 0},
              {"StatusOfMore", kPayloadLen, kBlockStatus, 0, 8 + 4 * 64 + 1, kEINVAL},
              {"StatusOfData", kPayloadLen, kBlockStatus, 0, 200 << 10, kEINVAL},
              {"UnknownWithIt", kPayloadLen, 77, 0, 12, kEINVAL},
              {"LongZeroes", 0, kWriteZeroes, 0, 1ull << 62, kENOSPC}},
             all);
  all.has_contexts = false;
  expect_all({{"StatusPayloadWithoutContexts", kPayloadLen, kBlockStatus, 0, 12, kEINVAL}}, all);
}

TEST(RequestRules, DiscIsADisconnectWhateverItsFields) {
  for (const HeaderStyle style : {HeaderStyle::kSimple, HeaderStyle::kExtended}) {
    EXPECT_EQ(judge({"", 0xffdf, kDisc, 5, 5, 0}, rules(style)).action,
              Verdict::Action::kDisconnect);
  }
}

}  // namespace
}  // namespace blockmig::nbd

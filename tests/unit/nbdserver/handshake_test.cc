// SPDX-License-Identifier: Apache-2.0
// The negotiation, byte for byte. Each test is named after the corner case; sections of the
// specification are in quotes.
#include "handshake_rig.h"

namespace blockmig::nbd {
namespace {

TEST_F(HandshakeTest, GreetsWithBothMagicsAndBothFlags) {
  const Handshake fresh(directory_, limits_);
  EXPECT_EQ(ByteVector(fresh.output().begin(), fresh.output().end()), greeting());
}

TEST_F(HandshakeTest, UnknownClientFlagsCloseTheConnection) {
  for (const std::uint32_t flags : {4u, 7u, 0x80000001u, 0xffffffffu}) {
    restart();
    EXPECT_TRUE(talk(client_flags(flags)).empty());
    EXPECT_TRUE(closed()) << flags;
  }
}

TEST_F(HandshakeTest, ExportNameAnswersSizeFlagsAndPadding) {
  const ByteVector answer =
      talk(join({client_flags(1), option(kOptExportName, Wire().text("disk0"))}));
  EXPECT_EQ(answer, Wire().u64(kSize).u16(kPlainFlags).fill(124, 0).bytes());
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, NoZeroesLeavesThePaddingOut) {
  const ByteVector answer =
      talk(join({client_flags(3), option(kOptExportName, Wire().text("disk0"))}));
  EXPECT_EQ(answer, Wire().u64(kSize).u16(kPlainFlags).bytes());
}

TEST_F(HandshakeTest, OldClientWithoutFixedNewstyleGetsExportNameAndNothingElse) {
  EXPECT_EQ(talk(join({client_flags(0), option(kOptExportName, Wire().text("disk0"))})).size(),
            134u);
  EXPECT_TRUE(transmits());
  restart();
  EXPECT_EQ(talk(join({client_flags(2), option(kOptExportName, Wire().text("disk0"))})).size(),
            10u);
  for (const std::uint32_t other : {2u, 3u, 6u, 7u, 8u, 99u}) {
    restart();
    EXPECT_TRUE(talk(join({client_flags(0), option(other)})).empty());
    EXPECT_TRUE(closed()) << other;
  }
}

TEST_F(HandshakeTest, ExportNameOfAMissingExportCloses) {
  EXPECT_TRUE(talk(join({client_flags(3), option(kOptExportName, Wire().text("nope"))})).empty());
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, ExportNameIsForbiddenAfterExtendedHeaders) {
  talk(join({client_flags(3), option(kOptExtended)}));
  EXPECT_TRUE(talk(option(kOptExportName, Wire().text("disk0"))).empty());
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, ExportNameLongerThanAnyNameCloses) {
  EXPECT_TRUE(talk(join({client_flags(3), option(kOptExportName, pattern(4097, 'a'))})).empty());
  EXPECT_TRUE(closed());
  restart();
  EXPECT_TRUE(talk(join({client_flags(3), option(kOptExportName, pattern(100000, 'a'))})).empty());
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, EmptyNameIsTheDefaultExportWhereThereIsOne) {
  talk(join({client_flags(3), option(kOptGo, info_data("", {}))}));
  EXPECT_FALSE(transmits());
  directory_.exports_.pop_back();
  EXPECT_EQ(talk(option(kOptGo, info_data("", {1}))),
            join({info_export(kOptGo, kPlainFlags),
                  option_reply(kOptGo, kRepInfo, Wire().u16(1).text("disk0")),
                  option_reply(kOptGo, kRepAck)}));
}

TEST_F(HandshakeTest, AbortIsAcknowledgedAndItsDataIgnored) {
  EXPECT_EQ(talk(join({client_flags(3), option(kOptAbort)})), option_reply(kOptAbort, kRepAck));
  EXPECT_TRUE(closed());
  restart();
  EXPECT_EQ(talk(join({client_flags(3), option(kOptAbort, pattern(100, 7))})),
            option_reply(kOptAbort, kRepAck));
  restart();
  EXPECT_EQ(talk(join({client_flags(3), option(kOptAbort, pattern(50000, 7))})),
            option_reply(kOptAbort, kRepAck));
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, ListShowsEveryExportInOrderWithItsDescription) {
  const ByteVector answer = talk(join({client_flags(3), option(kOptList)}));
  EXPECT_EQ(answer,
            join({option_reply(kOptList, kRepServer, Wire().text32("disk0").text("first disk")),
                  option_reply(kOptList, kRepServer, Wire().text32("disk1")),
                  option_reply(kOptList, kRepAck)}));
}

TEST_F(HandshakeTest, OptionsThatTakeNoDataRefuseItWithOneReplyAndStayInStep) {
  for (const std::uint32_t number : {kOptList, kOptStructured, kOptStartTls, kOptExtended}) {
    restart();
    const ByteVector data = pattern(33, 1);
    const ByteVector answer =
        talk(join({client_flags(3), option(static_cast<std::uint32_t>(number), data)}));
    EXPECT_EQ(only_reply(answer, static_cast<std::uint32_t>(number)), kErrInvalid) << number;
    EXPECT_EQ(talk(option(kOptAbort)), option_reply(kOptAbort, kRepAck));
  }
}

TEST_F(HandshakeTest, UnknownOptionsAreRefusedTheirPayloadSkippedAndHagglingGoesOn) {
  for (const std::uint32_t size : {0u, 1u, 5000u, 8500u, 1000000u}) {
    for (const std::uint32_t number : {4u, 0u, 12u, 0xffffffffu}) {
      restart();
      const ByteVector answer =
          talk(join({client_flags(3), option(number, pattern(size, 0x49))}), 4096);
      EXPECT_EQ(only_reply(answer, number), kErrUnsup) << number << " " << size;
      EXPECT_EQ(talk(option(kOptStructured)), option_reply(kOptStructured, kRepAck));
    }
  }
}

TEST_F(HandshakeTest, AnAbsurdlyLongOptionClosesAtItsHeader) {
  talk(client_flags(3));
  EXPECT_EQ(only_reply(talk(Wire().text("IHAVEOPT").u32(77).u32(0xffffffff)), 77), kErrTooBig);
  EXPECT_TRUE(closed());
  EXPECT_EQ(handshake_->failure(), NbdHandshakeFailure::kLimit);
}

TEST_F(HandshakeTest, SkippedPayloadsAreBoundedInSum_I16) {
  talk(client_flags(3));
  talk(Wire().text("IHAVEOPT").u32(77).u32(20u << 20));
  EXPECT_FALSE(closed());
  for (int i = 0; i < 20 << 8; ++i) talk(pattern(4096, 0));
  EXPECT_EQ(handshake_->state(), Handshake::State::kOption);
  EXPECT_EQ(only_reply(talk(Wire().text("IHAVEOPT").u32(77).u32(20u << 20)), 77), kErrTooBig);
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, WhatIsSkippedHasALimitOfItsOwn_I16) {
  limits_.max_skipped_bytes = 10'000;
  limits_.max_handshake_bytes = 1024;
  restart();
  talk(client_flags(3));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(only_reply(talk(option(77, pattern(5000, 0))), 77), kErrUnsup);
  }
  EXPECT_FALSE(closed()) << "it does not count in handshake-bytes";
  EXPECT_EQ(only_reply(talk(option(77, pattern(1, 0))), 77), kErrTooBig);
  EXPECT_TRUE(closed());
  EXPECT_EQ(handshake_->failure(), NbdHandshakeFailure::kLimit);
}

TEST_F(HandshakeTest, AKnownOptionThatIsTooLongIsTooBigAndStaysInStep) {
  const ByteVector answer = talk(join({client_flags(3), option(kOptGo, pattern(9000, 1))}));
  EXPECT_EQ(only_reply(answer, kOptGo), kErrTooBig);
  EXPECT_EQ(talk(option(kOptAbort)), option_reply(kOptAbort, kRepAck));
}

TEST_F(HandshakeTest, BadOptionMagicClosesBeforeTheHeaderIsWhole) {
  talk(client_flags(3));
  EXPECT_TRUE(talk(Wire().text("IHAVEOPX")).empty());
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, LongListsComeInBoundedPieces_I16) {
  directory_.exports_.clear();
  for (int i = 0; i < 3000; ++i) {
    directory_.exports_.push_back(
        std::make_shared<FakeExport>("disk" + std::to_string(i) + std::string(100, 'n'), device_));
  }
  const ByteVector answer = talk(join({client_flags(3), option(kOptList)}));
  EXPECT_GT(answer.size(), 300000u);
  EXPECT_LT(longest_output_, 32u * 1024);
  const ByteVector ack = option_reply(kOptList, kRepAck);
  EXPECT_TRUE(std::equal(ack.begin(), ack.end(), answer.end() - 20));
  EXPECT_EQ(talk(option(kOptAbort)), option_reply(kOptAbort, kRepAck));
}

TEST_F(HandshakeTest, ListLeavesOutWhatNobodyCouldAskFor) {
  directory_.exports_ = {std::make_shared<FakeExport>(std::string(4097, 'n'), device_),
                         std::make_shared<FakeExport>("\xff", device_)};
  EXPECT_EQ(talk(join({client_flags(3), option(kOptList)})), option_reply(kOptList, kRepAck));
}

TEST_F(HandshakeTest, StartTlsWithoutTlsIsUnsupported) {
  EXPECT_EQ(only_reply(talk(join({client_flags(3), option(kOptStartTls)})), kOptStartTls),
            kErrUnsup);
}

TEST_F(HandshakeTest, GoAnswersExportInfoAndAckAndNeverPads) {
  const ByteVector answer = talk(join({client_flags(1), option(kOptGo, info_data("disk0", {}))}));
  EXPECT_EQ(answer, join({info_export(kOptGo, kPlainFlags), option_reply(kOptGo, kRepAck)}));
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, InfoThenGoAgreeSizesIncluded) {
  talk(client_flags(3));
  ByteVector info = talk(option(kOptInfo, info_data("disk0", {1, 2, 3})));
  EXPECT_FALSE(transmits());
  const ByteVector go = talk(option(kOptGo, info_data("disk0", {1, 2, 3})));
  EXPECT_EQ(go, join({info_sizes(kOptGo), info_export(kOptGo, kPlainFlags),
                      option_reply(kOptGo, kRepInfo, Wire().u16(1).text("disk0")),
                      option_reply(kOptGo, kRepInfo, Wire().u16(2).text("first disk")),
                      option_reply(kOptGo, kRepAck)}));
  ASSERT_EQ(info.size(), go.size());
  for (std::size_t at = 0; at < info.size();) {
    info[at + 11] = std::byte{kOptGo};
    at += 20 + read_be(info, at + 16, 4);
  }
  EXPECT_EQ(info, go);
}

TEST_F(HandshakeTest, UnknownInfoRequestsAreIgnored) {
  const ByteVector answer =
      talk(join({client_flags(3), option(kOptGo, info_data("disk0", {999, 0, 65535}))}));
  EXPECT_EQ(answer, join({info_export(kOptGo, kPlainFlags), option_reply(kOptGo, kRepAck)}));
}

TEST_F(HandshakeTest, GoOfAnUnknownExportIsRefusedAndHagglingGoesOn) {
  for (const std::string& name : {std::string("nope"), std::string(4096, 'x')}) {
    restart();
    const ByteVector answer = talk(join({client_flags(3), option(kOptGo, info_data(name, {3}))}));
    EXPECT_EQ(only_reply(answer, kOptGo), kErrUnknown);
    EXPECT_LT(answer.size(), 600u);
    talk(option(kOptGo, info_data("disk0", {})));
    EXPECT_TRUE(transmits());
  }
}

std::vector<Malformed> malformed_infos() {
  return {
      {"Empty", {}},
      {"NameLengthCutShort", Wire().u16(0)},
      {"NameLongerThanTheData", Wire().u32(100).text("disk0").u16(0)},
      {"NameLengthWraps", Wire().u32(0xffffffff).text("disk0").u16(0)},
      {"NameTooLong", Wire().text32(std::string(4097, 'x')).u16(0)},
      {"NoCount", Wire().text32("disk0")},
      {"CountTooLarge", Wire().text32("disk0").u16(2).u16(1)},
      {"CountTooSmall", Wire().text32("disk0").u16(1).u16(1).u16(2)},
      {"TrailingByte", Wire().text32("disk0").u16(0).fill(1, 0)},
      {"NulInTheName", Wire().text32(std::string("disk0\0", 6)).u16(0)},
      {"NameNotUtf8", Wire().text32("disk\xc0\x80").u16(0)},
  };
}

TEST_F(HandshakeTest, MalformedInfoAndGoAreInvalidAndStayInStep) {
  for (const Malformed& each : malformed_infos()) {
    for (const std::uint32_t number : {kOptInfo, kOptGo}) {
      restart();
      const ByteVector answer =
          talk(join({client_flags(3), option(static_cast<std::uint32_t>(number), each.data)}));
      EXPECT_EQ(only_reply(answer, static_cast<std::uint32_t>(number)), kErrInvalid) << each.name;
      EXPECT_EQ(talk(option(kOptAbort)), option_reply(kOptAbort, kRepAck)) << each.name;
    }
  }
}

TEST_F(HandshakeTest, LargeMinimumBlocksMustBeAskedFor) {
  device_.mutable_info().min_io_bytes = 4096;
  talk(client_flags(3));
  const ByteVector sizes = Wire().u16(3).u32(4096).u32(4096).u32(32u << 20);
  const ByteVector refused = talk(option(kOptGo, info_data("disk0", {})));
  const ByteVector info = option_reply(kOptGo, kRepInfo, sizes);
  ASSERT_GT(refused.size(), info.size());
  EXPECT_TRUE(std::equal(info.begin(), info.end(), refused.begin()));
  EXPECT_EQ(read_be(refused, info.size() + 12, 4), kErrBlockSize);
  EXPECT_FALSE(transmits());
  talk(option(kOptGo, info_data("disk0", {3})));
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, SectorsOf512NeedNotBeAskedFor) {
  device_.mutable_info().min_io_bytes = 512;
  talk(join({client_flags(3), option(kOptGo, info_data("disk0", {}))}));
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, AdvertisedSizesAreLegalWhateverTheDeviceSays) {
  device_.mutable_info().min_io_bytes = 4096;
  device_.mutable_info().preferred_io_bytes = 100;
  limits_.advertised_max_bytes = 1000;
  restart();
  const ByteVector answer =
      talk(join({client_flags(3), option(kOptInfo, info_data("disk0", {3}))}));
  const ByteVector info =
      option_reply(kOptInfo, kRepInfo, Wire().u16(3).u32(4096).u32(4096).u32(4096));
  EXPECT_TRUE(std::equal(info.begin(), info.end(), answer.begin()));
}

TEST_F(HandshakeTest, ASmallMaximumMustBeKnown) {
  limits_.advertised_max_bytes = 64 << 10;
  restart();
  const ByteVector answer = talk(join({client_flags(3), option(kOptGo, info_data("disk0", {}))}));
  const ByteVector sizes =
      option_reply(kOptGo, kRepInfo, Wire().u16(3).u32(1).u32(4096).u32(64 << 10));
  ASSERT_GT(answer.size(), sizes.size() + 16);
  EXPECT_TRUE(std::equal(sizes.begin(), sizes.end(), answer.begin()));
  EXPECT_FALSE(transmits());
  talk(option(kOptGo, info_data("disk0", {3})));
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, AdvertisedMaximumIsWholeBlocks) {
  device_.mutable_info().min_io_bytes = 4096;
  limits_.advertised_max_bytes = 2'000'001;
  restart();
  talk(join({client_flags(3), option(kOptGo, info_data("disk0", {3}))}));
  EXPECT_EQ(handshake_->take_result().rules.facts.maximum_payload, 488 * 4096u);
}

TEST_F(HandshakeTest, ReadOnlyExportsOfferNoChanges) {
  disk_->read_only_ = true;
  const ByteVector answer = talk(join({client_flags(3), option(kOptGo, info_data("disk0", {}))}));
  EXPECT_EQ(answer, join({info_export(kOptGo, 0x050f), option_reply(kOptGo, kRepAck)}));
}

TEST_F(HandshakeTest, DfIsOfferedOnlyWithStructuredReplies) {
  talk(join({client_flags(3), option(kOptStructured)}));
  EXPECT_EQ(talk(option(kOptGo, info_data("disk0", {}))),
            join({info_export(kOptGo, kStructuredFlags), option_reply(kOptGo, kRepAck)}));
  EXPECT_EQ(handshake_->take_result().rules.style, HeaderStyle::kStructured);
}

TEST_F(HandshakeTest, StructuredReplyTwiceIsInvalid) {
  talk(join({client_flags(3), option(kOptStructured)}));
  EXPECT_EQ(only_reply(talk(option(kOptStructured)), kOptStructured), kErrInvalid);
}

TEST_F(HandshakeTest, StructuredReplyAfterExtendedHeadersIsExtHeaderReqd) {
  EXPECT_EQ(talk(join({client_flags(3), option(kOptExtended)})),
            option_reply(kOptExtended, kRepAck));
  EXPECT_EQ(only_reply(talk(option(kOptStructured)), kOptStructured), kErrExtHeader);
  EXPECT_EQ(only_reply(talk(option(kOptExtended)), kOptExtended), kErrInvalid);
}

TEST_F(HandshakeTest, ExtendedHeadersMayFollowStructuredReplies) {
  talk(join({client_flags(3), option(kOptStructured), option(kOptExtended)}));
  talk(option(kOptGo, info_data("disk0", {})));
  EXPECT_EQ(handshake_->take_result().rules.style, HeaderStyle::kExtended);
}

TEST_F(HandshakeTest, BytesBehindGoAreLeftForTheTransmission) {
  const ByteVector first = request(0, kFlush, 1, 0, 0);
  talk(join({client_flags(3), option(kOptGo, info_data("disk0", {})), first}));
  EXPECT_TRUE(transmits());
  EXPECT_EQ(input_, first);
}

TEST_F(HandshakeTest, OneByteAtATimeGivesTheSameAnswers) {
  const ByteVector script =
      join({client_flags(3), option(kOptStructured), option(kOptList), option(123, pattern(99, 1)),
            option(kOptSetMeta, meta_data("disk0", {"base:allocation"})),
            option(kOptInfo, info_data("disk1", {1, 2, 3})), option(kOptGo, info_data("x", {})),
            option(kOptGo, info_data("disk0", {3}))});
  const ByteVector whole = talk(script);
  EXPECT_TRUE(transmits());
  restart();
  EXPECT_EQ(talk(script, 1), whole);
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, ShuttingDownRefusesEverythingButAbort) {
  talk(client_flags(3));
  handshake_->begin_shutdown();
  EXPECT_EQ(only_reply(talk(option(kOptGo, info_data("disk0", {}))), kOptGo), kErrShutdown);
  EXPECT_EQ(only_reply(talk(option(kOptList)), kOptList), kErrShutdown);
  EXPECT_EQ(only_reply(talk(option(55, pattern(20, 0))), 55), kErrShutdown);
  EXPECT_EQ(talk(option(kOptAbort)), option_reply(kOptAbort, kRepAck));
  restart();
  talk(client_flags(3));
  handshake_->begin_shutdown();
  EXPECT_TRUE(talk(option(kOptExportName, Wire().text("disk0"))).empty());
  EXPECT_TRUE(closed());
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
// STARTTLS and what surrounds it in the negotiation, byte for byte ("TLS", "NBD_OPT_STARTTLS").
#include "handshake_rig.h"

namespace blockmig::nbd {
namespace {

using Tls = Handshake::Tls;
constexpr std::uint32_t kErrTlsReqd = 0x80000005;

class TlsHandshakeTest : public HandshakeTest {
 protected:
  void restart_with(Tls tls) {
    handshake_ = std::make_unique<Handshake>(directory_, limits_, tls);
    handshake_->clear_output();
    input_.clear();
  }
  /// What the session does once TLS is in force.
  void go_inside() {
    ASSERT_EQ(handshake_->state(), Handshake::State::kStartTls);
    handshake_ = std::make_unique<Handshake>(directory_, limits_, handshake_->carried());
    input_.clear();
  }
  void start_inside(std::uint32_t flags = 3) {
    restart_with(Tls::kRequired);
    talk(join({client_flags(flags), option(kOptStartTls)}));
    go_inside();
  }
  bool starts_tls() const { return handshake_->state() == Handshake::State::kStartTls; }
  static std::vector<std::pair<std::uint32_t, ByteVector>> all_but_starttls_and_abort() {
    return {{kOptList, {}},
            {kOptInfo, info_data("disk0", {3})},
            {kOptGo, info_data("disk0", {3})},
            {kOptGo, info_data("nope", {})},
            {kOptStructured, {}},
            {kOptExtended, {}},
            {kOptSetMeta, meta_data("disk0", {"base:allocation"})},
            {9, meta_data("disk0", {})},
            {4, pattern(5, 'x')},
            {77, pattern(70000, 'x')},
            {kOptList, pattern(9000, 'x')}};
  }
};

TEST_F(TlsHandshakeTest, OfferedOrRequiredStartTlsIsAcknowledged) {
  for (const Tls tls : {Tls::kOffered, Tls::kRequired, Tls::kRequiredButList}) {
    restart_with(tls);
    EXPECT_EQ(talk(join({client_flags(3), option(kOptStartTls)})),
              option_reply(kOptStartTls, kRepAck));
    EXPECT_TRUE(starts_tls());
  }
}

TEST_F(TlsHandshakeTest, RequiredEverythingElseIsTlsRequiredAndStaysInStep_I14) {
  for (const auto& [number, data] : all_but_starttls_and_abort()) {
    restart_with(Tls::kRequired);
    EXPECT_EQ(only_reply(talk(join({client_flags(3), option(number, data)})), number), kErrTlsReqd)
        << number;
    EXPECT_FALSE(transmits());
    EXPECT_EQ(handshake_->failure(), NbdHandshakeFailure::kTlsRequired);
    EXPECT_EQ(talk(option(kOptStartTls)), option_reply(kOptStartTls, kRepAck)) << number;
  }
}

TEST_F(TlsHandshakeTest, RequiredExportNameCloses_I14) {
  restart_with(Tls::kRequired);
  EXPECT_TRUE(talk(join({client_flags(3), option(kOptExportName, Wire().text("disk0"))})).empty());
  EXPECT_TRUE(closed());
  EXPECT_EQ(handshake_->failure(), NbdHandshakeFailure::kTlsRequired);
}

TEST_F(TlsHandshakeTest, RequiredAClientWithoutFixedNewstyleGetsNothing_I14) {
  for (const std::uint32_t flags : {0u, 2u}) {
    for (const std::uint32_t number : {1u, 2u, 3u, 5u, 7u}) {
      restart_with(Tls::kRequired);
      EXPECT_TRUE(talk(join({client_flags(flags), option(number)})).empty());
      EXPECT_TRUE(closed()) << flags << " " << number;
    }
  }
}

TEST_F(TlsHandshakeTest, RequiredAbortIsAcknowledged) {
  restart_with(Tls::kRequired);
  EXPECT_EQ(talk(join({client_flags(3), option(kOptAbort, pattern(20, 'x'))})),
            option_reply(kOptAbort, kRepAck));
  EXPECT_TRUE(closed());
}

TEST_F(TlsHandshakeTest, ListBeforeTlsByPolicyOnly) {
  restart_with(Tls::kRequiredButList);
  const ByteVector answer = talk(join({client_flags(3), option(kOptList)}));
  EXPECT_EQ(answer,
            join({option_reply(kOptList, kRepServer, Wire().text32("disk0").text("first disk")),
                  option_reply(kOptList, kRepServer, Wire().text32("disk1")),
                  option_reply(kOptList, kRepAck)}));
  EXPECT_EQ(only_reply(talk(option(kOptGo, info_data("disk0", {}))), kOptGo), kErrTlsReqd);
}

TEST_F(TlsHandshakeTest, OfferedEverythingIsServedWithoutTls) {
  restart_with(Tls::kOffered);
  talk(join({client_flags(3), option(kOptGo, info_data("disk0", {3}))}));
  EXPECT_TRUE(transmits());
}

TEST_F(TlsHandshakeTest, StartTlsWithDataIsNeverAcknowledged) {
  for (const Tls tls : {Tls::kOff, Tls::kOffered, Tls::kRequired}) {
    restart_with(tls);
    EXPECT_EQ(only_reply(talk(join({client_flags(3), option(kOptStartTls, pattern(4, 'x'))})),
                         kOptStartTls),
              kErrInvalid);
    EXPECT_FALSE(starts_tls());
    EXPECT_EQ(only_reply(talk(option(kOptStartTls, pattern(9000, 'x'))), kOptStartTls), kErrTooBig);
    EXPECT_FALSE(starts_tls());
  }
}

TEST_F(TlsHandshakeTest, SecondStartTlsIsInvalid) {
  start_inside();
  EXPECT_EQ(only_reply(talk(option(kOptStartTls)), kOptStartTls), kErrInvalid);
  talk(option(kOptGo, info_data("disk0", {3})));
  EXPECT_TRUE(transmits()) << "the haggling goes on";
}

TEST_F(TlsHandshakeTest, InsideTlsNothingIsEverTlsRequired) {
  for (const auto& [number, data] : all_but_starttls_and_abort()) {
    start_inside();
    const ByteVector answer = talk(option(number, data));
    ASSERT_GE(answer.size(), 20u) << number;
    for (std::size_t at = 0; at + 20 <= answer.size();) {
      EXPECT_NE(read_be(answer, at + 12, 4), kErrTlsReqd) << number;
      at += 20 + read_be(answer, at + 16, 4);
    }
  }
}

TEST_F(TlsHandshakeTest, InsideTlsThereIsNoSecondGreeting) {
  restart_with(Tls::kRequired);
  talk(join({client_flags(3), option(kOptStartTls)}));
  handshake_ = std::make_unique<Handshake>(directory_, limits_, handshake_->carried());
  EXPECT_TRUE(handshake_->output().empty());
}

TEST_F(TlsHandshakeTest, BytesBehindStartTlsAreNeverActedOn_CVE_2021_3716) {
  for (const ByteVector& injected :
       {option(kOptGo, info_data("disk0", {})), option(kOptList), ByteVector(1, std::byte{0})}) {
    restart_with(Tls::kOffered);
    EXPECT_TRUE(talk(join({client_flags(3), option(kOptStartTls), injected})).empty())
        << "not even acknowledged";
    EXPECT_TRUE(closed());
    EXPECT_EQ(handshake_->failure(), NbdHandshakeFailure::kProtocol);
  }
}

TEST_F(TlsHandshakeTest, NothingNegotiatedBeforeTlsSurvivesIt_CVE_2021_3716) {
  restart_with(Tls::kOffered);
  talk(join({client_flags(3), option(kOptStructured),
             option(kOptSetMeta, meta_data("disk0", {"base:allocation"})), option(kOptStartTls)}));
  go_inside();
  EXPECT_EQ(
      only_reply(talk(option(kOptSetMeta, meta_data("disk0", {"base:allocation"}))), kOptSetMeta),
      kErrInvalid)
      << "structured replies come first, again";
  EXPECT_EQ(talk(option(kOptGo, info_data("disk0", {}))),
            join({info_export(kOptGo, kPlainFlags), option_reply(kOptGo, kRepAck)}));
  const Negotiated result = handshake_->take_result();
  EXPECT_EQ(result.rules.style, HeaderStyle::kSimple);
  EXPECT_TRUE(result.contexts.empty());
}

TEST_F(TlsHandshakeTest, ExtendedHeadersBeforeTlsAreForgottenToo) {
  restart_with(Tls::kOffered);
  talk(join({client_flags(3), option(kOptExtended), option(kOptStartTls)}));
  go_inside();
  EXPECT_EQ(talk(option(kOptStructured)), option_reply(kOptStructured, kRepAck));
}

TEST_F(TlsHandshakeTest, ClientFlagsHoldInsideTls) {
  start_inside(1);
  EXPECT_EQ(talk(option(kOptExportName, Wire().text("disk0"))).size(), 134u);
  start_inside(3);
  EXPECT_EQ(talk(option(kOptExportName, Wire().text("disk0"))).size(), 10u);
}

TEST_F(TlsHandshakeTest, LimitsCountAcrossStartTls_I16) {
  limits_.max_options = 4;
  restart_with(Tls::kOffered);
  talk(join({client_flags(3), option(99), option(99), option(kOptStartTls)}));
  go_inside();
  talk(option(99));
  EXPECT_FALSE(closed());
  talk(option(99));
  EXPECT_TRUE(closed());
}

TEST_F(TlsHandshakeTest, ShutdownRefusesStartTls) {
  restart_with(Tls::kOffered);
  handshake_->begin_shutdown();
  EXPECT_EQ(only_reply(talk(join({client_flags(3), option(kOptStartTls)})), kOptStartTls),
            kErrShutdown);
}

}  // namespace
}  // namespace blockmig::nbd

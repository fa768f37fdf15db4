// SPDX-License-Identifier: Apache-2.0
// The limits of a negotiation as a whole, and what does not count in them.
#include <string>

#include "handshake_rig.h"

namespace blockmig::nbd {
namespace {

TEST_F(HandshakeTest, TooManyOptionsClose_I16) {
  limits_.max_options = 5;
  restart();
  talk(client_flags(3));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(talk(option(kOptList)).empty());
  EXPECT_FALSE(closed());
  EXPECT_EQ(only_reply(talk(option(kOptList)), kOptList), kErrTooBig);
  EXPECT_TRUE(closed());
  EXPECT_EQ(handshake_->failure(), NbdHandshakeFailure::kLimit);
  restart();
  talk(client_flags(3));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(talk(option(99)).empty());
  EXPECT_FALSE(closed());
  EXPECT_EQ(only_reply(talk(option(99)), 99), kErrTooBig);
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, WhereThereIsNoErrorReplyALimitCloses_I16) {
  limits_.max_options = 1;
  restart();
  talk(join({client_flags(3), option(99)}));
  EXPECT_TRUE(talk(option(kOptExportName, Wire().text("disk0"))).empty());
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, EachExportThatIsListedCanBeLookedAt) {
  limits_.max_options = 5;
  limits_.max_handshake_bytes = 1024;
  directory_.exports_.clear();
  for (int i = 0; i < 100; ++i) {
    directory_.exports_.push_back(
        std::make_shared<FakeExport>("disk" + std::to_string(i), device_));
  }
  restart();
  talk(join({client_flags(3), option(kOptStructured), option(kOptList)}));
  for (int i = 0; i < 100; ++i) {
    const std::string name = "disk" + std::to_string(i);
    talk(option(kOptInfo, info_data(name, {1, 2, 3})));
    talk(option(kOptListMeta, meta_data(name, {})));
    talk(option(kOptSetMeta, meta_data(name, {"base:allocation"})));
  }
  EXPECT_FALSE(closed());
  EXPECT_EQ(handshake_->looks(), 300u);
  EXPECT_FALSE(talk(option(kOptGo, info_data("disk99", {}))).empty());
  EXPECT_TRUE(transmits());
}

TEST_F(HandshakeTest, LooksBeyondTheListCount_I16) {
  limits_.max_options = 5;
  restart();
  talk(client_flags(3));
  for (int i = 0; i < 5; ++i) talk(option(kOptInfo, info_data("disk0", {})));
  EXPECT_FALSE(closed());
  EXPECT_EQ(only_reply(talk(option(kOptInfo, info_data("disk0", {}))), kOptInfo), kErrTooBig);
  EXPECT_TRUE(closed()) << "no list was asked for";
  restart();
  talk(client_flags(3));
  for (int i = 0; i < 3; ++i) talk(option(kOptList));
  const int free = 2 * Handshake::kLooksPerExport;
  for (int i = 0; i < free + 2; ++i) talk(option(kOptInfo, info_data("disk0", {})));
  EXPECT_FALSE(closed());
  EXPECT_EQ(only_reply(talk(option(kOptInfo, info_data("disk0", {}))), kOptInfo), kErrTooBig);
  EXPECT_TRUE(closed()) << "a list that is asked for again grants nothing";
}

TEST_F(HandshakeTest, LooksThatFindNothingCount_I16) {
  limits_.max_options = 5;
  restart();
  talk(join({client_flags(3), option(kOptList)}));
  for (int i = 0; i < 4; ++i) talk(option(kOptInfo, info_data("none", {})));
  EXPECT_FALSE(closed());
  talk(option(kOptInfo, info_data("none", {})));
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, TooManyHandshakeBytesClose_I16) {
  limits_.max_handshake_bytes = 10000;
  restart();
  talk(client_flags(3));
  EXPECT_FALSE(talk(option(kOptGo, info_data(std::string(4000, 'x'), {}))).empty());
  EXPECT_FALSE(talk(option(kOptGo, info_data(std::string(4000, 'x'), {}))).empty());
  const ByteVector last = talk(option(kOptGo, info_data(std::string(4000, 'x'), {})));
  EXPECT_EQ(only_reply(last, kOptGo), kErrTooBig);
  EXPECT_TRUE(closed());
}

TEST_F(HandshakeTest, UnknownOptionsCountAsHandshakeBytesToo_I16) {
  limits_.max_handshake_bytes = 4 + 3 * 16;
  restart();
  talk(client_flags(3));
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(talk(option(99)).empty());
  EXPECT_FALSE(closed());
  EXPECT_EQ(only_reply(talk(option(99)), 99), kErrTooBig);
  EXPECT_TRUE(closed());
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/admission.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

StreamPeer user(std::uint32_t uid, std::vector<std::uint32_t> gids = {100}) {
  return {"uid:" + std::to_string(uid), PeerCredentials{uid, std::move(gids), 1}};
}
StreamPeer host(const std::string& address) { return {"tcp:" + address, std::nullopt}; }

TEST(Admission, WithoutRulesEverybodyComesIn) {
  const Admission admission(NbdServerLimits{}, {});
  EXPECT_FALSE(admission.refusal(user(0)));
  EXPECT_FALSE(admission.refusal(user(1000)));
  EXPECT_FALSE(admission.refusal(host("192.0.2.1")));
}

TEST(Admission, AUserListLetsOthersStayOutside) {
  const Admission admission(NbdServerLimits{}, {{1000, 64055}, {}});
  EXPECT_FALSE(admission.refusal(user(1000)));
  EXPECT_FALSE(admission.refusal(user(64055)));
  EXPECT_EQ(admission.refusal(user(1001)), NbdRefusalReason::kPeerNotAllowed);
  EXPECT_EQ(admission.refusal(user(0)), NbdRefusalReason::kPeerNotAllowed)
      << "root is no exception";
}

TEST(Admission, AGroupListLooksAtEveryGroupOfThePeer) {
  const Admission admission(NbdServerLimits{}, {{}, {36}});
  EXPECT_FALSE(admission.refusal(user(1000, {36})));
  EXPECT_FALSE(admission.refusal(user(1000, {100, 4, 36})));
  EXPECT_EQ(admission.refusal(user(1000, {100, 4})), NbdRefusalReason::kPeerNotAllowed);
}

TEST(Admission, UserOrGroupIsEnough) {
  const Admission admission(NbdServerLimits{}, {{1000}, {36}});
  EXPECT_FALSE(admission.refusal(user(1000, {1})));
  EXPECT_FALSE(admission.refusal(user(7, {36})));
  EXPECT_EQ(admission.refusal(user(7, {1})), NbdRefusalReason::kPeerNotAllowed);
}

TEST(Admission, RulesAreForConnectionsThatHaveCredentials) {
  const Admission admission(NbdServerLimits{}, {{1000}, {}});
  EXPECT_FALSE(admission.refusal(host("192.0.2.1")));
}

TEST(Admission, CountsInAllAndPerPeer) {
  NbdServerLimits limits;
  limits.max_connections = 4;
  limits.max_connections_per_peer = 2;
  Admission admission(limits, {});
  admission.admit(host("192.0.2.1"));
  admission.admit(host("192.0.2.1"));
  EXPECT_EQ(admission.refusal(host("192.0.2.1")), NbdRefusalReason::kTooManyOfPeer);
  EXPECT_FALSE(admission.refusal(host("192.0.2.2")));
  EXPECT_FALSE(admission.refusal(user(0)));
  admission.admit(user(0));
  admission.admit(user(1));
  EXPECT_EQ(admission.refusal(user(2)), NbdRefusalReason::kTooManyConnections);
  admission.leave(host("192.0.2.1"));
  EXPECT_FALSE(admission.refusal(host("192.0.2.1")));
  EXPECT_EQ(admission.connections(), 3u);
}

TEST(Admission, StreamsThatNobodyKnowsAnythingOfAreNotOnePeer) {
  NbdServerLimits limits;
  limits.max_connections_per_peer = 1;
  Admission admission(limits, {});
  admission.admit({});
  EXPECT_FALSE(admission.refusal({}));
}

}  // namespace
}  // namespace blockmig

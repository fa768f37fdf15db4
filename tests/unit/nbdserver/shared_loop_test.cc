// SPDX-License-Identifier: Apache-2.0
// A device whose loop is shared with a copier: clients rest after each turn for as long as it says.
#include <gtest/gtest.h>

#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using std::chrono::milliseconds;
using Style = SessionRig::Style;
constexpr std::uint32_t kLong = 300 * 1024;

class SharedLoop : public testing::Test {
 protected:
  SharedLoop() : client_(rig_.transmitting(Style::kSimple)) {}
  ByteVector read(std::uint64_t cookie) { return request(0, kRead, cookie, 0, 512); }

  SessionRig rig_;
  SessionRig::Connection& client_;
};

TEST_F(SharedLoop, WhatItHasToItselfIsNotAskedAbout) {
  rig_.send(client_, read(1));
  EXPECT_EQ(rig_.spy.turns, 0);
}

TEST_F(SharedLoop, TheNextRequestsWaitUntilTheRestIsOver) {
  rig_.spy.rest = milliseconds(50);
  rig_.send(client_, read(1));
  const int after_first = rig_.spy.reads;
  EXPECT_EQ(after_first, 1);
  rig_.send(client_, join({read(2), read(3)}));
  rig_.settle(milliseconds(20));
  EXPECT_EQ(rig_.spy.reads, 1) << "resting";
  rig_.settle(milliseconds(60));
  EXPECT_EQ(rig_.spy.reads, 3);
  EXPECT_GE(rig_.spy.turns, 2);
}

TEST_F(SharedLoop, AnAnswerDoesNotEndTheRest) {
  rig_.spy.rest = milliseconds(50);
  // Its write is answered later than the turn ends: what is given back wakes the intake.
  rig_.send(client_, request(0, kWriteZeroes, 1, 0, 4096));
  rig_.send(client_, read(2));
  rig_.settle(milliseconds(20));
  EXPECT_EQ(rig_.spy.reads, 0);
  rig_.settle(milliseconds(60));
  EXPECT_EQ(rig_.spy.reads, 1);
}

TEST_F(SharedLoop, ALongPayloadIsUseOfTheLoopToo) {
  rig_.spy.in_place = &rig_.memory;
  rig_.spy.rest = milliseconds(1);
  rig_.send(client_, request(0, kWrite, 1, 0, kLong));
  for (int i = 0; i < 3; ++i) {
    rig_.send(client_, pattern(kLong / 3, 3));
    rig_.settle(milliseconds(10));
  }
  EXPECT_EQ(rig_.receive(client_), simple_reply(0, 1));
  EXPECT_GE(rig_.spy.fills, 3);
  // The requests' headers before and behind, what was received where it lies, the write's end.
  EXPECT_GE(rig_.spy.turns, 2 + rig_.spy.fills + 1);
}

TEST_F(SharedLoop, AShutdownDoesNotWaitForTheRest) {
  rig_.spy.rest = std::chrono::hours(1);
  rig_.send(client_, read(1));
  client_.session->begin_shutdown();
  rig_.settle(milliseconds(100));
  EXPECT_TRUE(client_.ended);
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
// A base whose connection is lost in mid-hydration, and comes back.
#include "blockmig/block/reconnecting_device.h"
#include "hydrating_rig.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class HydratingBase : public HydratingRig {
 protected:
  void settle() { run_task(loop, device->settle_base()); }
  void advance(Duration time) { run_task(loop, sleep_for(loop, time)); }
  static Task<void> reconnect_later(EventLoop& event_loop, FaultDevice& store, Duration after) {
    co_await sleep_for(event_loop, after);
    store.reconnect();
  }
  void lose_base_for(Duration time) {
    base->disconnect();
    returning.spawn(reconnect_later(loop, *base, time));
  }
  TaskScope returning;
};

TEST_F(HydratingBase, ThatHasNothingToLoseIsConnectedAgainAndReadsWait) {
  open(false);
  settle();
  lose_base_for(seconds(2));
  const TimePoint begun = loop.now();
  expect_content(0, 4096);
  EXPECT_GE(loop.now() - begun, seconds(2));
  EXPECT_LE(loop.now() - begun, seconds(4));
  EXPECT_EQ(device->trouble(), "");
  push_until_whole();
  expect_content(0, kSize);
}

TEST_F(HydratingBase, TheBackgroundGoesOnWithItToo) {
  open(false);
  settle();
  lose_base_for(seconds(2));
  push_until_whole();
  expect_content(0, kSize);
}

TEST_F(HydratingBase, WhatTheMirrorHadNotFlushedEndsTheMirrorAndNothingElse_I12) {
  open(true);
  settle();
  ASSERT_TRUE(write(0, kChunk, 7).ok());  // both stores; unflushed at the base
  lose_base_for(seconds(1));
  expect_content(8 * kChunk, 4096);
  EXPECT_FALSE(device->mirrors_back());
  EXPECT_FALSE(device->record().reverse_mirror);
  push_until_whole();
  expect_content(0, kSize);
}

TEST_F(HydratingBase, WhatOnlyItHasAndHasNotFlushedKeepsItAway_I1) {
  open(true);
  settle();
  ASSERT_TRUE(write(100, 512, 7).ok());  // a part of an absent chunk: the base alone has it
  lose_base_for(milliseconds(100));
  EXPECT_FALSE(read(0, 4096).ok());
  advance(seconds(30));
  EXPECT_FALSE(read(0, 4096).ok());
  EXPECT_FALSE(read(8 * kChunk, 4096).ok());
  EXPECT_NE(device->trouble().find("serve the disk anew"), std::string::npos) << device->trouble();
}

TEST_F(HydratingBase, FlushedItMayComeBack_I1) {
  open(true);
  settle();
  ASSERT_TRUE(write(100, 512, 7).ok());
  ASSERT_TRUE(flush().ok());
  lose_base_for(seconds(1));
  expect_content(0, 4096);
}

TEST_F(HydratingBase, WhatWasThereBeforeTheSwitchoverCountsAsUnflushed_I1) {
  open(false);
  lose_base_for(milliseconds(100));  // settle_base() has not been there
  EXPECT_FALSE(read(0, 4096).ok());
}

TEST_F(HydratingBase, AWriteThatFailedWithTheConnectionMayStillHappenThere_I2) {
  open(true);
  settle();
  base->disconnect();
  EXPECT_FALSE(write(100, 512, 7).ok());
  base->reconnect();
  advance(seconds(5));
  EXPECT_FALSE(read(0, 4096).ok());
}

TEST_F(HydratingBase, ItIsLookedForUntilTheDiskIsClosed) {
  open(false);
  settle();
  base->disconnect();
  EXPECT_FALSE(read(0, 4096).ok());
  EXPECT_NE(device->trouble().find("being connected again"), std::string::npos);
  advance(seconds(60));
  EXPECT_TRUE(close().ok());
}

// The simulator found a disk that could not be closed (sim --mode source --verify full, 51037).
TEST_F(HydratingBase, ThatLooksForItselfIsNotWaitedForWhenTheDiskIsClosed) {
  open(false);
  auto lasting = std::make_unique<ReconnectingDevice>(loop, std::make_unique<SharedDevice>(base),
                                                      milliseconds(500));
  lasting->outlast();
  device->attach_base(std::move(lasting));
  settle();
  base->disconnect();
  EXPECT_FALSE(read(0, 4096).ok());
  advance(seconds(60));
  bool closed = false;
  const auto close_into = [](HydratingDevice& of, bool& done) -> Task<void> {
    const Status status = co_await of.close();
    EXPECT_TRUE(status.ok());
    done = true;
  };
  returning.spawn(close_into(*device, closed));
  advance(seconds(60));
  EXPECT_TRUE(closed);
  base->reconnect();
  for (int i = 0; i < 100 && !closed; ++i) advance(seconds(1));
  device.reset();
}

/// A base that is connected again by itself, and here too when that took too long for a reader.
class ReconnectingBase : public HydratingBase {
 protected:
  std::unique_ptr<BlockDevice> open_base() override {
    auto shared = std::make_unique<SharedDevice>(base);
    auto reconnecting = std::make_unique<ReconnectingDevice>(loop, std::move(shared), seconds(2));
    reconnecting->outlast();
    return reconnecting;
  }
};

TEST_F(ReconnectingBase, ThatStaysAwayIsNotWaitedForByTheClosing) {
  open(false);
  settle();
  base->disconnect();
  EXPECT_FALSE(read(0, 4096).ok());
  advance(seconds(60));
  EXPECT_TRUE(close().ok());
}

TEST_F(ReconnectingBase, ThatComesBackIsNotConnectedTwice) {
  base->plan().min_delay = base->plan().max_delay = milliseconds(10);
  open(false);
  settle();
  base->disconnect();
  EXPECT_FALSE(read(0, 4096).ok());
  base->reconnect();
  push_until_whole();
  EXPECT_EQ(device->trouble(), "");
  expect_content(0, kSize);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/memory_budget.h"

#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig::nbd {
namespace {

constexpr std::uint64_t kOwn = BudgetShare::kOwnBytes;
constexpr std::uint64_t kMiB = 1 << 20;

class MemoryBudgetTest : public testing::Test {
 protected:
  struct Connection {
    std::unique_ptr<BudgetShare> share;
    int granted = 0;
  };
  /// To a disk of its own.
  Connection& connect(const std::string& origin = "uid:1") {
    return connect(origin, "vm" + std::to_string(connections_.size()));
  }
  Connection& connect(const std::string& origin, const std::string& disk) {
    auto& connection = *connections_.emplace_back(std::make_unique<Connection>());
    connection.share = std::make_unique<BudgetShare>(loop_, &budget_, origin, disk,
                                                     [raw = &connection] { ++raw->granted; });
    return connection;
  }
  /// Lets the loop deliver what was posted.
  void settle() { run_task(loop_, sleep_for(loop_, std::chrono::milliseconds(1))); }

  Random random_{1};
  SimLoop loop_{random_};
  MemoryBudget budget_{4 * kMiB};
  std::vector<std::unique_ptr<Connection>> connections_;
};

TEST_F(MemoryBudgetTest, WhatIsSmallTouchesNothingShared) {
  Connection& connection = connect();
  EXPECT_TRUE(connection.share->cover(kOwn));
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(MemoryBudgetTest, TakesInStepsAndAnIdleConnectionHoldsNothing) {
  Connection& connection = connect();
  EXPECT_TRUE(connection.share->cover(kOwn + 1));
  EXPECT_EQ(budget_.used(), BudgetShare::kStepBytes);
  EXPECT_TRUE(connection.share->cover(kOwn + BudgetShare::kStepBytes));
  EXPECT_EQ(budget_.used(), BudgetShare::kStepBytes);
  connection.share->shrink_to(kOwn + 1);
  EXPECT_EQ(budget_.used(), BudgetShare::kStepBytes);
  connection.share->shrink_to(0);
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(MemoryBudgetTest, NeverMoreThanTheBudgetBesideEachOnesOwn) {
  for (int i = 0; i < 8; ++i) (void)connect().share->cover(kOwn + kMiB);
  EXPECT_EQ(budget_.used(), 4 * kMiB);
  EXPECT_TRUE(budget_.has_waiters());
}

TEST_F(MemoryBudgetTest, TheSmallGoOnWhenOthersHoldEverything) {
  EXPECT_TRUE(connect().share->cover(kOwn + 4 * kMiB));
  EXPECT_FALSE(connect().share->cover(kOwn + 1));
  EXPECT_TRUE(connect().share->cover(kOwn));
}

TEST_F(MemoryBudgetTest, OfOneOriginsWhoNeedsLessGoesAheadOfTheLarge) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 4 * kMiB));
  Connection& large = connect();
  Connection& small = connect();
  ASSERT_FALSE(large.share->cover(kOwn + 3 * kMiB));
  ASSERT_FALSE(small.share->cover(kOwn + kMiB));
  holder.share->shrink_to(kOwn + 3 * kMiB);
  settle();
  EXPECT_EQ(small.granted, 1) << "there is room for it alone";
  EXPECT_EQ(large.granted, 0);
  // What counts is what the connection holds then, not what it asks for.
  Connection& other = connect();
  ASSERT_FALSE(other.share->cover(kOwn + kMiB + 1));
  ASSERT_FALSE(small.share->cover(kOwn + 2 * kMiB));
  holder.share->shrink_to(kOwn + 3 * kMiB / 2 - 1);
  settle();
  EXPECT_EQ(other.granted, 1);
  EXPECT_EQ(small.granted, 1);
}

TEST_F(MemoryBudgetTest, AmongEqualsWhoWaitsIsServedInOrder) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 4 * kMiB));
  Connection& first = connect();
  Connection& second = connect();
  ASSERT_FALSE(first.share->cover(kOwn + kMiB));
  ASSERT_FALSE(second.share->cover(kOwn + kMiB));
  holder.share->shrink_to(kOwn + 3 * kMiB);
  settle();
  EXPECT_EQ(first.granted, 1);
  EXPECT_EQ(second.granted, 0);
}

TEST_F(MemoryBudgetTest, TheLargeDoNotStarve) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 2 * kMiB));
  Connection& large = connect();
  ASSERT_FALSE(large.share->cover(kOwn + 3 * kMiB));
  std::uint64_t past = 0;
  for (; past < 64; ++past) {
    Connection& small = connect();
    if (!small.share->cover(kOwn + kMiB)) settle();
    if (small.granted == 0) break;
    small.share->shrink_to(0);
  }
  EXPECT_EQ(past, 4u) << "the budget's worth";
  holder.share->shrink_to(0);
  settle();
  EXPECT_EQ(large.granted, 1);
}

TEST_F(MemoryBudgetTest, WhoHoldsLessComesBeforeAnotherOnesCrowd) {
  Connection& holder = connect("tcp:192.0.2.1");
  ASSERT_TRUE(holder.share->cover(kOwn + 4 * kMiB));
  Connection& crowd = connect("tcp:192.0.2.1");
  Connection& more = connect("tcp:192.0.2.1");
  Connection& other = connect("uid:1");
  ASSERT_FALSE(crowd.share->cover(kOwn + 2 * kMiB));
  ASSERT_FALSE(more.share->cover(kOwn + 2 * kMiB));
  ASSERT_FALSE(other.share->cover(kOwn + 2 * kMiB));
  holder.share->shrink_to(kOwn + 2 * kMiB);
  settle();
  EXPECT_EQ(other.granted, 1) << "it came last, but from where nothing is held";
  EXPECT_EQ(crowd.granted + more.granted, 0);
  other.share->shrink_to(0);
  settle();
  EXPECT_EQ(crowd.granted, 1) << "among equals in order";
  EXPECT_EQ(more.granted, 0);
}

TEST_F(MemoryBudgetTest, HungDisksLeaveEachOtherOneAsMuchAsTheyTake_I10) {
  // However many clients they have, and however often these ask.
  for (const char* const hung : {"hung1", "hung2", "hung3"}) {
    for (int i = 0; i < 40; ++i) (void)connect("uid:1", hung).share->cover(kOwn + kMiB / 8);
    EXPECT_TRUE(budget_.has_waiters());
  }
  EXPECT_EQ(budget_.used(), 4 * kMiB / 2 + 4 * kMiB / 4 + 4 * kMiB / 8);
  Connection& healthy = connect("uid:1", "healthy");
  for (int i = 0; i < 3; ++i) {
    if (!healthy.share->cover(kOwn + kMiB / 4)) settle();
    EXPECT_TRUE(healthy.share->cover(kOwn + kMiB / 4)) << "it passes those who wait";
    healthy.share->shrink_to(0);
  }
}

TEST_F(MemoryBudgetTest, OfADiskThatHoldsNothingARequestOfAnySizeThatFitsGoesAhead) {
  EXPECT_TRUE(connect().share->cover(kOwn + kMiB));
  EXPECT_TRUE(connect("uid:1", "vm").share->cover(kOwn + 3 * kMiB));
}

TEST_F(MemoryBudgetTest, TheLargeOfOneDiskDoNotStarve) {
  Connection& holder = connect("uid:1", "vm");
  ASSERT_TRUE(holder.share->cover(kOwn + kMiB));
  Connection& large = connect("uid:1", "vm");
  ASSERT_FALSE(large.share->cover(kOwn + 3 * kMiB));
  std::uint64_t past = 0;
  for (; past < 64; ++past) {
    Connection& small = connect("uid:1", "vm");
    if (!small.share->cover(kOwn + kMiB)) settle();
    if (small.granted == 0) break;
    small.share->shrink_to(0);
  }
  EXPECT_EQ(past, 4u) << "the budget's worth";
  Connection& other = connect("uid:1", "other");
  if (!other.share->cover(kOwn + kMiB)) settle();
  EXPECT_TRUE(other.share->cover(kOwn + kMiB)) << "another disk's is not held up by it";
  other.share->shrink_to(0);
  holder.share->shrink_to(0);
  settle();
  EXPECT_EQ(large.granted, 1);
}

TEST_F(MemoryBudgetTest, ABusyConnectionGivesItsSpareStepUpWhenSomebodyWaits) {
  Connection& busy = connect();
  ASSERT_TRUE(busy.share->cover(kOwn + 4 * kMiB));
  busy.share->shrink_to(kOwn + 3 * kMiB);
  EXPECT_EQ(budget_.used(), 3 * kMiB + BudgetShare::kStepBytes);
  Connection& waiting = connect();
  ASSERT_FALSE(waiting.share->cover(kOwn + kMiB));
  busy.share->shrink_to(kOwn + 3 * kMiB);
  settle();
  EXPECT_EQ(waiting.granted, 1);
}

TEST_F(MemoryBudgetTest, MoreThanThereIsGoesAheadAlone) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 1));
  Connection& huge = connect();
  EXPECT_FALSE(huge.share->cover(kOwn + 64 * kMiB));
  holder.share->shrink_to(0);
  settle();
  EXPECT_EQ(huge.granted, 1);
  EXPECT_TRUE(huge.share->cover(kOwn + 64 * kMiB));
  EXPECT_FALSE(holder.share->cover(kOwn + 1));
}

TEST_F(MemoryBudgetTest, WhoLeavesTheLineMakesRoomForTheNext) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 3 * kMiB));
  Connection& gone = connect();
  Connection& next = connect();
  ASSERT_FALSE(gone.share->cover(kOwn + 4 * kMiB));
  ASSERT_FALSE(next.share->cover(kOwn + kMiB));
  gone.share.reset();
  settle();
  EXPECT_EQ(next.granted, 1);
  EXPECT_EQ(gone.granted, 0);
}

TEST_F(MemoryBudgetTest, AGrantThatFindsNobodyIsGivenBack) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 4 * kMiB));
  Connection& gone = connect();
  ASSERT_FALSE(gone.share->cover(kOwn + kMiB));
  holder.share->shrink_to(0);  // the grant is on its way
  gone.share.reset();
  settle();
  EXPECT_EQ(gone.granted, 0);
  EXPECT_EQ(budget_.used(), 0u);
}

TEST_F(MemoryBudgetTest, WhoNeedsLessThanHeAskedForLeavesTheLine) {
  Connection& holder = connect();
  ASSERT_TRUE(holder.share->cover(kOwn + 4 * kMiB));
  Connection& waiting = connect();
  ASSERT_FALSE(waiting.share->cover(kOwn + kMiB));
  EXPECT_TRUE(waiting.share->cover(kOwn));
  EXPECT_FALSE(budget_.has_waiters());
}

TEST_F(MemoryBudgetTest, KnowsSinceWhenTheFirstOneWaits) {
  EXPECT_FALSE(budget_.waiting_since());
  ASSERT_TRUE(connect().share->cover(kOwn + 4 * kMiB));
  const TimePoint first = loop_.now();
  ASSERT_FALSE(connect().share->cover(kOwn + 1));
  settle();
  ASSERT_FALSE(connect().share->cover(kOwn + 1));
  ASSERT_TRUE(budget_.waiting_since());
  EXPECT_EQ(*budget_.waiting_since(), first);
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/bandwidth_pool.h"

#include <gtest/gtest.h>

#include <memory>

#include "blockmig/base/bytes.h"
#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// Copies as fast as it is let, `answer` after each turn, until it is told to stop.
struct Copier {
  Copier(EventLoop& event_loop, BandwidthPool& pool, Priority priority, Duration answer_time)
      : loop(event_loop), share(pool, priority), answer(answer_time) {}
  Task<void> run() {
    while (!stop) {
      if (share.limited()) co_await share.wait_turn();
      if (stop) break;
      const std::uint64_t bytes = std::min<std::uint64_t>(share.turn_bytes(), kMiB);
      share.charge(bytes);
      copied += bytes;
      if (answer > Duration::zero()) co_await sleep_for(loop, answer);
    }
  }
  EventLoop& loop;
  BandwidthShare share;
  Duration answer;
  std::uint64_t copied = 0;
  bool stop = false;
};

class BandwidthPoolTest : public testing::Test {
 protected:
  BandwidthPoolTest() { pool_.set_rate(10 * kMiB); }
  ~BandwidthPoolTest() override {
    for (const auto& copier : copiers_) {
      copier->stop = true;
      copier->share.release();
    }
    advance(seconds(1));
    EXPECT_EQ(scope_.running(), 0u);
    copiers_.clear();
  }
  Copier& add(Priority priority, Duration answer = milliseconds(1)) {
    copiers_.push_back(std::make_unique<Copier>(loop_, pool_, priority, answer));
    scope_.spawn(copiers_.back()->run());
    return *copiers_.back();
  }
  void advance(Duration time) { run_task(loop_, sleep_for(loop_, time)); }
  double mib(const Copier& copier) const {
    return static_cast<double>(copier.copied) / static_cast<double>(kMiB);
  }

  Random random_{5};
  SimLoop loop_{random_};
  BandwidthPool pool_{loop_};
  std::vector<std::unique_ptr<Copier>> copiers_;
  TaskScope scope_;
};

TEST_F(BandwidthPoolTest, OneCopierGetsTheWholeRate) {
  const Copier& only = add(Priority::kLow);
  advance(seconds(10));
  EXPECT_NEAR(mib(only), 100, 1.5);
}

TEST_F(BandwidthPoolTest, TheRateHoldsForAllTogetherAndIsSharedByWeight) {
  const Copier& low = add(Priority::kLow);
  const Copier& normal = add(Priority::kNormal);
  const Copier& high = add(Priority::kHigh);
  advance(seconds(42));
  EXPECT_NEAR(mib(low) + mib(normal) + mib(high), 420, 2);
  EXPECT_NEAR(mib(low), 20, 2);
  EXPECT_NEAR(mib(normal), 80, 2);
  EXPECT_NEAR(mib(high), 320, 2);
}

TEST_F(BandwidthPoolTest, WhatOneLeavesOthersHave) {
  // Half a MiB in half a second: a tenth of the rate, where it could have 16 parts of 17.
  const Copier& slow = add(Priority::kHigh, milliseconds(500));
  const Copier& low = add(Priority::kLow);
  advance(seconds(20));
  EXPECT_LE(mib(slow), 21);
  EXPECT_NEAR(mib(slow) + mib(low), 200, 2);
}

TEST_F(BandwidthPoolTest, NobodySavesUpForHavingBeenIdle) {
  const Copier& first = add(Priority::kNormal);
  advance(seconds(20));
  const std::uint64_t before = first.copied;
  const Copier& late = add(Priority::kNormal);
  advance(seconds(10));
  EXPECT_NEAR(static_cast<double>(first.copied - before) / kMiB, 50, 2);
  EXPECT_NEAR(mib(late), 50, 2);
}

TEST_F(BandwidthPoolTest, ANewPriorityAndANewRateCountAtOnce) {
  Copier& one = add(Priority::kLow);
  Copier& two = add(Priority::kHigh);
  advance(seconds(10));
  one.share.set_priority(Priority::kHigh);
  pool_.set_rate(20 * kMiB);
  const std::uint64_t before = one.copied;
  const std::uint64_t other_before = two.copied;
  advance(seconds(10));
  EXPECT_NEAR(static_cast<double>(one.copied - before) / kMiB, 100, 4);
  EXPECT_NEAR(static_cast<double>(two.copied - other_before) / kMiB, 100, 4);
}

TEST_F(BandwidthPoolTest, WithoutALimitNobodyWaitsNorIsInDebtLater) {
  pool_.set_rate(0);
  BandwidthShare share(pool_, Priority::kNormal);
  EXPECT_FALSE(share.limited());
  EXPECT_EQ(share.turn_bytes(), ~std::uint64_t{0});
  share.charge(kGiB);
  pool_.set_rate(kMiB);
  const TimePoint begun = loop_.now();
  run_task(loop_, share.wait_turn());
  EXPECT_EQ(loop_.now(), begun);
}

TEST_F(BandwidthPoolTest, ALimitThatIsTakenAwayLetsThoseWhoWaitGo) {
  BandwidthShare share(pool_, Priority::kNormal);
  share.charge(kGiB);
  TaskScope waiting;
  waiting.spawn(share.wait_turn());
  advance(seconds(50));
  EXPECT_EQ(waiting.running(), 1u);
  pool_.set_rate(0);
  advance(milliseconds(1));
  EXPECT_EQ(waiting.running(), 0u);
}

TEST_F(BandwidthPoolTest, AReleasedShareNeverWaitsAgainAndLetsOthersBy) {
  BandwidthShare share(pool_, Priority::kHigh);
  share.charge(10 * kMiB);
  TaskScope waiting;
  waiting.spawn(share.wait_turn());
  share.release();
  advance(milliseconds(1));
  EXPECT_EQ(waiting.running(), 0u);
  const Copier& other = add(Priority::kLow);
  advance(seconds(11));
  EXPECT_NEAR(mib(other), 100, 2);  // after what was owed
}

TEST_F(BandwidthPoolTest, ATurnThatIsNotUsedIsTheNextOnes) {
  BandwidthShare idle(pool_, Priority::kHigh);
  run_task(loop_, idle.wait_turn());
  const Copier& other = add(Priority::kLow);
  advance(seconds(1));
  EXPECT_NEAR(mib(other), 10, 1);
}

TEST_F(BandwidthPoolTest, WhatIsTakenWithoutATurnIsPaidForByTheShareItself) {
  const Copier& other = add(Priority::kNormal);
  advance(seconds(10));
  {
    BandwidthShare fence(pool_, Priority::kNormal);
    fence.charge(5 * kMiB);  // half a second for all, and then as much for the other
    TaskScope waiting;
    waiting.spawn(fence.wait_turn());
    advance(milliseconds(900));
    EXPECT_EQ(waiting.running(), 1u);
    advance(milliseconds(200));
    EXPECT_EQ(waiting.running(), 0u);
  }
  advance(milliseconds(8900));
  EXPECT_NEAR(mib(other), 195, 2);
}

TEST_F(BandwidthPoolTest, WithoutALimitCopiesInFlightAreSharedWhileOthersCopy) {
  pool_.set_rate(0);
  BandwidthShare low(pool_, Priority::kLow);
  BandwidthShare normal(pool_, Priority::kNormal);
  BandwidthShare high(pool_, Priority::kHigh);
  EXPECT_EQ(low.depth(8), 8u);  // nobody copies
  normal.charge(1);
  EXPECT_EQ(low.depth(8), 2u);
  EXPECT_EQ(normal.depth(8), 8u);
  high.charge(1);
  EXPECT_EQ(low.depth(8), 1u);
  EXPECT_EQ(normal.depth(8), 2u);
  EXPECT_EQ(high.depth(8), 8u);
  high.release();
  EXPECT_EQ(normal.depth(8), 8u);
  advance(BandwidthPool::kIdle);
  EXPECT_EQ(low.depth(8), 8u);
  normal.charge(1);
  pool_.set_rate(kMiB);
  EXPECT_EQ(low.depth(8), 8u);  // the limit does it
}

}  // namespace
}  // namespace blockmig

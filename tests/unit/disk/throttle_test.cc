// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/throttle.h"

#include <gtest/gtest.h>

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

class TokenBucketTest : public testing::Test {
 protected:
  Duration time_to_take(TokenBucket& bucket, int times, std::uint64_t bytes) {
    const TimePoint begun = loop_.now();
    for (int i = 0; i < times; ++i) run_task(loop_, bucket.take(bytes));
    return loop_.now() - begun;
  }
  Random random_{5};
  SimLoop loop_{random_};
};

TEST_F(TokenBucketTest, UnlimitedNeverWaits) {
  TokenBucket bucket(loop_, 0);
  EXPECT_EQ(time_to_take(bucket, 100, kGiB), Duration::zero());
}

TEST_F(TokenBucketTest, TheRateHoldsOverTime) {
  TokenBucket bucket(loop_, 10 * kMiB);
  const Duration took = time_to_take(bucket, 101, kMiB);
  EXPECT_GE(took, milliseconds(9990));
  EXPECT_LE(took, milliseconds(10010));
  EXPECT_EQ(bucket.waited(), took);
}

TEST_F(TokenBucketTest, ARequestLargerThanASecondsWorthPasses) {
  TokenBucket bucket(loop_, kMiB);
  EXPECT_EQ(time_to_take(bucket, 1, 5 * kMiB), Duration::zero());
  EXPECT_GE(time_to_take(bucket, 1, 1), milliseconds(4999));
}

TEST_F(TokenBucketTest, ANewRateCountsForThoseWhoWait) {
  TokenBucket bucket(loop_, kMiB);
  run_task(loop_, bucket.take(100 * kMiB));
  TaskScope scope;
  scope.spawn(bucket.take(1));
  run_task(loop_, sleep_for(loop_, seconds(1)));
  EXPECT_EQ(scope.running(), 1u);
  bucket.set_rate(0);
  run_task(loop_, sleep_for(loop_, milliseconds(1)));
  EXPECT_EQ(scope.running(), 0u);
}

TEST_F(TokenBucketTest, HeldNothingPassesWhateverTheRate) {
  TokenBucket bucket(loop_, 0);
  bucket.hold();
  EXPECT_FALSE(bucket.unlimited());
  TaskScope scope;
  scope.spawn(bucket.take(1));
  run_task(loop_, sleep_for(loop_, seconds(100)));
  EXPECT_EQ(scope.running(), 1u);
  bucket.let_go();
  run_task(loop_, sleep_for(loop_, milliseconds(1)));
  EXPECT_EQ(scope.running(), 0u);
}

TEST_F(TokenBucketTest, WhatIsChargedAfterwardsIsPaidForByTheNext) {
  TokenBucket bucket(loop_, kMiB);
  EXPECT_EQ(time_to_take(bucket, 3, 0), Duration::zero());
  bucket.charge(2 * kMiB);
  EXPECT_GE(time_to_take(bucket, 1, 0), milliseconds(1999));
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/inline_policy.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

const TimePoint kStart{seconds(1000)};

/// A watched call that the kernel held up.
void wait_in_a_call(InlinePolicy& policy, TimePoint start, Duration took) {
  policy.observe_slow(start, start + took, {1, 0});
}

TEST(InlinePolicy, KnowsWhatIsSlow) {
  EXPECT_FALSE(InlinePolicy::is_slow(microseconds(1000), 4096));
  EXPECT_TRUE(InlinePolicy::is_slow(microseconds(1001), 4096));
  EXPECT_FALSE(InlinePolicy::is_slow(microseconds(2000), kMiB + 1));
}

TEST(InlinePolicy, TheFirstSlowCallIsForgivenAndTheNextOnesWatched) {
  InlinePolicy policy;
  EXPECT_FALSE(policy.watches_next());
  policy.forgive();
  EXPECT_TRUE(policy.allows(kStart, 4096));
  for (int i = 0; i < InlinePolicy::kWatchedCalls; ++i) EXPECT_TRUE(policy.watches_next());
  EXPECT_FALSE(policy.watches_next());
}

TEST(InlinePolicy, ACallThatTheKernelHeldUpSendsTheOthersAway) {
  // It waited; it waited and was preempted; it worked all the time.
  for (const InlinePolicy::Switches during :
       {InlinePolicy::Switches{1, 0}, InlinePolicy::Switches{1, 3}, InlinePolicy::Switches{0, 0}}) {
    InlinePolicy policy;
    const TimePoint end = kStart + milliseconds(5);
    policy.observe_slow(kStart, end, during);
    EXPECT_FALSE(policy.allows(end + milliseconds(9), 4096));
    EXPECT_TRUE(policy.allows(end + milliseconds(10), 4096));
    EXPECT_TRUE(policy.watches_next()) << "the first ones afterwards";
  }
}

TEST(InlinePolicy, ACallThatLostTheProcessorToOthersIsNoReason) {
  InlinePolicy policy;
  policy.observe_slow(kStart, kStart + milliseconds(5), {0, 1});
  EXPECT_TRUE(policy.allows(kStart + milliseconds(5), 4096));
  EXPECT_TRUE(policy.watches_next());
}

TEST(InlinePolicy, RefusesWhatIsTooLarge) {
  InlinePolicy policy;
  EXPECT_TRUE(policy.allows(kStart, InlinePolicy::kMaxInlineBytes));
  EXPECT_FALSE(policy.allows(kStart, InlinePolicy::kMaxInlineBytes + 1));
}

TEST(InlinePolicy, BackOffDoublesUpToASecond) {
  InlinePolicy policy;
  TimePoint now = kStart;
  for (const int expected_ms : {10, 20, 40, 80, 160, 320, 640, 1000, 1000}) {
    wait_in_a_call(policy, now, milliseconds(5));
    EXPECT_EQ(policy.quiet_until() - (now + milliseconds(5)), milliseconds(expected_ms));
    now = policy.quiet_until();
  }
}

TEST(InlinePolicy, ForgetsAfterASecondWithoutASlowCall) {
  InlinePolicy policy;
  wait_in_a_call(policy, kStart, milliseconds(5));
  wait_in_a_call(policy, policy.quiet_until(), milliseconds(5));
  const TimePoint later = policy.quiet_until() + seconds(1) + milliseconds(1);
  wait_in_a_call(policy, later, milliseconds(5));
  EXPECT_EQ(policy.quiet_until() - (later + milliseconds(5)), milliseconds(10));
}

}  // namespace
}  // namespace blockmig

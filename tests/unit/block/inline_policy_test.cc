// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/inline_policy.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;

const TimePoint kStart{seconds(1000)};

TEST(InlinePolicy, AllowsUntilACallWasSlow) {
  InlinePolicy policy;
  EXPECT_TRUE(policy.allows(kStart, 4096));
  policy.observe(kStart, kStart + microseconds(900), 4096);
  EXPECT_TRUE(policy.allows(kStart + milliseconds(1), 4096));
  policy.observe(kStart, kStart + microseconds(1001), 4096);
  EXPECT_FALSE(policy.allows(kStart + milliseconds(2), 4096));
  EXPECT_TRUE(policy.allows(kStart + microseconds(1001) + milliseconds(10), 4096));
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
    policy.observe(now, now + milliseconds(5), 512);
    EXPECT_EQ(policy.quiet_until() - (now + milliseconds(5)), milliseconds(expected_ms));
    now = policy.quiet_until();
  }
}

TEST(InlinePolicy, ForgetsAfterASecondWithoutASlowCall) {
  InlinePolicy policy;
  policy.observe(kStart, kStart + milliseconds(5), 512);
  policy.observe(policy.quiet_until(), policy.quiet_until() + milliseconds(5), 512);
  const TimePoint later = policy.quiet_until() + seconds(1) + milliseconds(1);
  policy.observe(later, later + milliseconds(5), 512);
  EXPECT_EQ(policy.quiet_until() - (later + milliseconds(5)), milliseconds(10));
}

}  // namespace
}  // namespace blockmig

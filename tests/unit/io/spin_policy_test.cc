// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/spin_policy.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

constexpr Duration kSpin = std::chrono::microseconds(50);

/// How many of `sleeps` were preceded by a spin when no spin ever finds anything.
int fruitless_spins(SpinPolicy& policy, int sleeps) {
  int spins = 0;
  for (int i = 0; i < sleeps; ++i) {
    if (policy.before_sleep() == Duration::zero()) continue;
    ++spins;
    policy.spun(false);
  }
  return spins;
}

TEST(SpinPolicy, SpinsEveryTimeWhileItPays) {
  SpinPolicy policy(kSpin);
  for (int i = 0; i < 10'000; ++i) {
    ASSERT_EQ(policy.before_sleep(), kSpin);
    policy.spun(true);
  }
}

TEST(SpinPolicy, ToleratesAFewFruitlessSpins) {
  SpinPolicy policy(kSpin);
  for (int round = 0; round < 100; ++round) {
    for (std::uint32_t i = 0; i + 1 < SpinPolicy::kPatience; ++i) {
      ASSERT_EQ(policy.before_sleep(), kSpin);
      policy.spun(false);
    }
    ASSERT_EQ(policy.before_sleep(), kSpin);
    policy.spun(true);
  }
}

TEST(SpinPolicy, StopsSpinningWhenItNeverPays) {
  SpinPolicy policy(kSpin);
  (void)fruitless_spins(policy, 10'000);
  // An idle daemon that wakes now and then: about one spin in a thousand wake-ups.
  EXPECT_LE(fruitless_spins(policy, 100'000),
            100'000 / static_cast<int>(SpinPolicy::kMaxSkips) + 1);
}

TEST(SpinPolicy, KeepsTryingAndReturnsAtOnceWhenItPaysAgain) {
  SpinPolicy policy(kSpin);
  (void)fruitless_spins(policy, 10'000);
  std::uint32_t slept = 0;
  while (policy.before_sleep() == Duration::zero()) ++slept;
  EXPECT_LE(slept, SpinPolicy::kMaxSkips);
  policy.spun(true);
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(policy.before_sleep(), kSpin);
    policy.spun(true);
  }
}

TEST(SpinPolicy, BacksOffExponentially) {
  SpinPolicy policy(kSpin);
  EXPECT_EQ(fruitless_spins(policy, SpinPolicy::kPatience),
            static_cast<int>(SpinPolicy::kPatience));
  for (std::uint32_t skips = 2; skips <= 64; skips *= 2) {
    for (std::uint32_t i = 0; i < skips; ++i) ASSERT_EQ(policy.before_sleep(), Duration::zero());
    ASSERT_EQ(policy.before_sleep(), kSpin);
    policy.spun(false);
  }
}

TEST(SpinPolicy, AfterItPaidTheBackOffStartsFromTheBeginning) {
  SpinPolicy policy(kSpin);
  (void)fruitless_spins(policy, 10'000);
  while (policy.before_sleep() == Duration::zero()) {
  }
  policy.spun(true);
  const int patience = static_cast<int>(SpinPolicy::kPatience);
  EXPECT_EQ(fruitless_spins(policy, patience), patience);
  EXPECT_EQ(policy.before_sleep(), Duration::zero());
  EXPECT_EQ(policy.before_sleep(), Duration::zero());
  EXPECT_EQ(policy.before_sleep(), kSpin);
}

TEST(SpinPolicy, ZeroNeverSpins) {
  SpinPolicy policy(Duration::zero());
  for (int i = 0; i < 100; ++i) EXPECT_EQ(policy.before_sleep(), Duration::zero());
}

}  // namespace
}  // namespace blockmig

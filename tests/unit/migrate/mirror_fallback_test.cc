// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/mirror_fallback.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

using std::chrono::milliseconds;
constexpr Duration kDeadline = milliseconds(50);
const TimePoint kStart{std::chrono::hours(1)};

void misses(MirrorFallback& fallback, unsigned count, TimePoint now) {
  for (unsigned i = 0; i < count; ++i) fallback.ended(false, now);
}

TEST(MirrorFallback, AFewWritesProveNothing) {
  MirrorFallback fallback(kDeadline);
  misses(fallback, MirrorFallback::kFewestWrites - 1, kStart);
  EXPECT_FALSE(fallback.tracking(kStart));
}

TEST(MirrorFallback, HalfOfTheWritesInTimeIsWorthTheWait) {
  MirrorFallback fallback(kDeadline);
  for (int i = 0; i < 1000; ++i) fallback.ended(i % 2 == 0, kStart);
  EXPECT_EQ(fallback.times(), 0u);
}

TEST(MirrorFallback, MostMissedTracksForTenDeadlinesAndTriesAgain) {
  MirrorFallback fallback(kDeadline);
  misses(fallback, MirrorFallback::kFewestWrites, kStart);
  EXPECT_EQ(fallback.times(), 1u);
  EXPECT_TRUE(fallback.tracking(kStart + 10 * kDeadline - milliseconds(1)));
  EXPECT_FALSE(fallback.tracking(kStart + 10 * kDeadline));
}

TEST(MirrorFallback, ARelapseTracksTwiceAsLongUpToABound) {
  MirrorFallback fallback(kDeadline);
  TimePoint now = kStart;
  for (int i = 0; i < 20; ++i) {
    const Duration hold =
        std::min<Duration>(kDeadline * 10 * (1 << std::min(i, 10)), kDeadline * 200);
    misses(fallback, MirrorFallback::kFewestWrites, now);
    EXPECT_TRUE(fallback.tracking(now + hold - milliseconds(1)));
    now += hold;
    EXPECT_FALSE(fallback.tracking(now));
  }
}

TEST(MirrorFallback, HealthShortensTheNextHold) {
  MirrorFallback fallback(kDeadline);
  misses(fallback, MirrorFallback::kFewestWrites, kStart);
  const TimePoint later = kStart + 10 * kDeadline;
  for (unsigned i = 0; i < MirrorFallback::kWritesOfHealth; ++i) fallback.ended(true, later);
  misses(fallback, MirrorFallback::kMostWrites, later);
  EXPECT_TRUE(fallback.tracking(later));
  EXPECT_FALSE(fallback.tracking(later + 10 * kDeadline)) << "as after the first time";
}

TEST(MirrorFallback, WhatEndsWhileTrackingCountsNot) {
  MirrorFallback fallback(kDeadline);
  misses(fallback, 100, kStart);
  EXPECT_EQ(fallback.times(), 1u);
  fallback.ended(false, kStart + 10 * kDeadline);
  EXPECT_FALSE(fallback.tracking(kStart + 10 * kDeadline));
}

}  // namespace
}  // namespace blockmig

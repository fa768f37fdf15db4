// SPDX-License-Identifier: Apache-2.0
#include "blockmig/disk/guest_share.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

constexpr Duration kStep = microseconds(50);
constexpr TimePoint kBegin{std::chrono::seconds(1)};

/// A guest that always has the next batch, for a while in which the limit is kept up: how much of
/// the time it had the loop.
double used_by_a_greedy_guest(GuestShare& share, double part) {
  TimePoint now = kBegin;
  Duration used{};
  for (int i = 0; i < 1000; ++i) {
    share.limit(part, now);
    used += kStep;
    now = std::max(share.used(now, now + kStep), now + kStep);
  }
  return static_cast<double>(used.count()) / static_cast<double>((now - kBegin).count());
}

TEST(GuestShare, AGuestWaitsForNobodyUnlessLimited) {
  GuestShare share;
  EXPECT_FALSE(share.limited());
  EXPECT_EQ(share.used(kBegin, kBegin + kStep), kBegin + kStep);
  EXPECT_EQ(share.part(kBegin), 1);
}

TEST(GuestShare, AGreedyGuestGetsItsPartAndNoMore) {
  for (const double part : {0.125, 0.5, 0.9}) {
    GuestShare share;
    EXPECT_NEAR(used_by_a_greedy_guest(share, part), part, 0.01);
  }
}

TEST(GuestShare, AModestGuestNeverWaits) {
  GuestShare share;
  TimePoint now = kBegin;
  for (int i = 0; i < 100; ++i) {
    share.limit(0.25, now);
    const TimePoint next = now + 5 * kStep;
    EXPECT_LE(share.used(now, now + kStep), next);
    now = next;
  }
}

TEST(GuestShare, SeveralConnectionsShareOnePart) {
  GuestShare share;
  share.limit(0.5, kBegin);
  const TimePoint first = share.used(kBegin, kBegin + kStep);
  EXPECT_EQ(first, kBegin + 2 * kStep);
  EXPECT_EQ(share.used(kBegin + kStep, kBegin + 2 * kStep), first + 2 * kStep);
}

TEST(GuestShare, ALongBatchDoesNotMakeALongWait) {
  GuestShare share;
  share.limit(0.1, kBegin);
  const TimePoint ended = kBegin + milliseconds(20);
  EXPECT_EQ(share.used(kBegin, ended), ended + GuestShare::kMostRest);
}

TEST(GuestShare, ALimitLapsesUnlessItIsRenewed) {
  GuestShare share;
  share.limit(0.1, kBegin);
  const TimePoint late = kBegin + GuestShare::kLapse;
  EXPECT_LT(share.part(late - kStep), 1);
  EXPECT_EQ(share.part(late), 1);
  EXPECT_EQ(share.used(late, late + kStep), late + kStep);
  EXPECT_FALSE(share.limited());
}

TEST(GuestShare, LiftedItIsAllTheGuestsAtOnce) {
  GuestShare share;
  share.limit(0.1, kBegin);
  share.lift();
  EXPECT_FALSE(share.limited());
  EXPECT_EQ(share.used(kBegin, kBegin + kStep), kBegin + kStep);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// What is measured of a target, and how copier and guest share it.
#include "blockmig/migrate/target_share.h"

#include <gtest/gtest.h>

#include "blockmig/base/bytes.h"
#include "blockmig/migrate/recent_rate.h"
#include "blockmig/migrate/target_pace.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
constexpr std::uint64_t kChunk = 64 * kKiB;
const TimePoint kStart{std::chrono::hours(1)};

TEST(TargetPace, SaysNothingBeforeItHasSeenEnough) {
  TargetPace pace;
  EXPECT_EQ(pace.bytes_per_second(), 0u);
  EXPECT_EQ(pace.quickest(), Duration::zero());
  pace.answered(4096, milliseconds(1), milliseconds(1));
  EXPECT_EQ(pace.bytes_per_second(), 0u);
}

TEST(TargetPace, TimeWithoutARequestDoesNotCount) {
  TargetPace pace;
  for (int i = 0; i < 100; ++i) {  // busy for 1 ms in every second
    pace.answered(kChunk, milliseconds(1), milliseconds(1));
  }
  EXPECT_NEAR(static_cast<double>(pace.bytes_per_second()), 64.0 * kKiB * 1000, 64 * kKiB);
}

TEST(TargetPace, FollowsATargetThatBecomesSlow) {
  TargetPace pace;
  for (int i = 0; i < 1000; ++i) pace.answered(kChunk, milliseconds(1), milliseconds(1));
  for (int i = 0; i < 60; ++i) pace.answered(kChunk, milliseconds(50), milliseconds(50));
  EXPECT_LT(pace.bytes_per_second(), 2 * kMiB) << "64 KiB in 50 ms for three seconds";
}

TEST(TargetPace, TheQuickestAnswerIsThatToASmallWriteWhateverQueuesLater) {
  TargetPace pace;
  pace.answered(16 * kChunk, milliseconds(1), milliseconds(1));
  EXPECT_EQ(pace.quickest(), Duration::zero()) << "a large one says little";
  pace.answered(kChunk, milliseconds(2), milliseconds(1));
  for (int i = 0; i < 8; ++i) pace.answered(kChunk, milliseconds(9), milliseconds(9));
  EXPECT_EQ(pace.quickest(), milliseconds(2));
}

TEST(RecentRate, ABurstIsAveragedAndForgotten) {
  RecentRate rate;
  EXPECT_EQ(rate.bytes_per_second(kStart), 0u);
  rate.add(kMiB, kStart);
  EXPECT_NEAR(static_cast<double>(rate.bytes_per_second(kStart)), 2.0 * kMiB, 1);
  EXPECT_LT(rate.bytes_per_second(kStart + seconds(3)), 8 * kKiB);
}

TEST(RecentRate, IsTheRateOfWhatGoesOn) {
  RecentRate rate;
  TimePoint now = kStart;
  for (int i = 0; i < 500; ++i) rate.add(kChunk, now += milliseconds(10));
  EXPECT_NEAR(static_cast<double>(rate.bytes_per_second(now)), 6.4e6 * 1.024, 1e5);
}

/// A target that takes `mib` MiB/s, with so much under way.
TargetShare::Target target(std::uint64_t mib, std::uint64_t mirrored = 0, std::uint64_t bulk = 0) {
  return {mib * kMiB, milliseconds(1), mirrored, bulk};
}

TEST(TargetShare, TheWindowIsWhatTheTargetTakesInASmallPartOfTheDeadline) {
  const TargetShare share({milliseconds(50), kChunk});
  EXPECT_EQ(share.window(target(0)), 4 * kChunk) << "nothing is known";
  EXPECT_EQ(share.window(target(8)), 5 * kChunk / 4) << "a chunk, and small writes beside it";
  EXPECT_NEAR(static_cast<double>(share.window(target(1000))), 2.0 * kMiB, kChunk);
}

TEST(TargetShare, ALongWayIsFilled) {
  const TargetShare share({milliseconds(50), kChunk});
  TargetShare::Target far = target(1000);
  far.quickest = milliseconds(30);
  EXPECT_GE(share.window(far), 59 * kMiB);
}

TEST(TargetShare, WithoutAWriteThatWaitsTheCopierHasWhatIsLeft) {
  const TargetShare share({milliseconds(50), kChunk});
  EXPECT_TRUE(share.bulk_fits(kChunk, target(100, 0, kChunk)));
  EXPECT_FALSE(share.bulk_fits(kChunk, target(100, 2 * kChunk, kChunk)));
  EXPECT_FALSE(share.bulk_fits(kChunk, target(100, 9 * kChunk, 0)));
  EXPECT_TRUE(share.bulk_fits(99 * kChunk, target(100))) << "one always";
}

TEST(TargetShare, ASlowTargetHasOneChunkUnderWayAndSmallWritesBesideIt) {
  const TargetShare share({milliseconds(50), kChunk});
  EXPECT_TRUE(share.guest_fits(99 * kChunk, target(8))) << "one always";
  EXPECT_FALSE(share.guest_fits(kChunk, target(8, 0, kChunk)));
  EXPECT_FALSE(share.bulk_fits(kChunk, target(8, kChunk, 0)));
  EXPECT_TRUE(share.guest_fits(4096, target(8, 0, kChunk)));
  EXPECT_TRUE(share.bulk_fits(kChunk, target(8, 4096, 0)));
}

/// What part of the target the guest gets with so much of it waiting all the time.
double part_of_guest(TargetShare& share, std::uint64_t mib, std::uint64_t waiting) {
  std::uint64_t guest = 0;
  std::uint64_t bulk = 0;
  share.guest_waits(waiting);
  share.bulk_waits(true);
  for (int i = 0; i < 1000; ++i) {
    if (share.guest_fits(kChunk, target(mib))) {
      share.guest_sent(kChunk, target(mib));
      guest += kChunk;
    } else if (share.bulk_fits(kChunk, target(mib))) {
      share.bulk_sent(kChunk, target(mib));
      bulk += kChunk;
    } else {
      ADD_FAILURE() << "each waits for the other";
      break;
    }
  }
  return static_cast<double>(guest) / static_cast<double>(guest + bulk);
}

TEST(TargetShare, TheGuestGetsWhatItsWaitingWritesNeedToBeInTimeAndNotMore) {
  TargetShare share({milliseconds(50), kChunk});
  // 512 KiB within 40 ms: 13.1 of 21 MB/s.
  EXPECT_NEAR(part_of_guest(share, 20, 8 * kChunk), 0.62, 0.02);
  EXPECT_NEAR(part_of_guest(share, 32, kChunk), 0.5, 0.02) << "it comes first";
  EXPECT_NEAR(part_of_guest(share, 1, 8 * kChunk), 0.75, 0.02) << "and never starves the copier";
}

TEST(TargetShare, NearTheEndTheGuestWaitsHalfAsLong) {
  TargetShare share({milliseconds(50), kChunk});
  share.near_end(true);
  EXPECT_NEAR(part_of_guest(share, 35, 8 * kChunk), 0.71, 0.02);
  EXPECT_NEAR(part_of_guest(share, 40, kChunk), 0.67, 0.02);
}

TEST(TargetShare, WhoDoesNotWaitIsNotWaitedFor) {
  TargetShare share({milliseconds(50), kChunk});
  for (int i = 0; i < 1000; ++i) {  // the guest alone
    ASSERT_TRUE(share.guest_fits(kChunk, target(32))) << i;
    share.guest_sent(kChunk, target(32));
  }
  // It is not made to pay for that: at most a window.
  share.guest_waits(kChunk);
  share.bulk_waits(true);
  int before = 0;
  while (!share.guest_fits(kChunk, target(32)) && ++before < 100) {
    share.bulk_sent(kChunk, target(32));
  }
  EXPECT_LE(before, 9);
}

}  // namespace
}  // namespace blockmig

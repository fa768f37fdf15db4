// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/stall_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace blockmig::nbd {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr std::uint64_t kMiB = 1 << 20;
const TimePoint kStart{};

MemoryStanding standing(std::uint64_t held, std::uint64_t given, bool waits = true) {
  return {held, given, waits ? 1u : 0u, 0u};
}

TEST(StallWatch, NamesWhoGivesNothingBackThroughAWholeWindow) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(kMiB, 0), kStart);
  watch.note(1, standing(kMiB, 0), kStart + seconds(29));
  EXPECT_THAT(watch.take_culprits(), IsEmpty());
  watch.note(1, standing(kMiB, 0), kStart + seconds(30));
  EXPECT_THAT(watch.take_culprits(), ElementsAre(1u));
}

TEST(StallWatch, DrippingAByteNowAndThenDoesNotHelp) {
  StallWatch watch(seconds(30));
  for (int i = 0; i <= 30; ++i) {
    watch.note(1, standing(kMiB, static_cast<std::uint64_t>(i)), kStart + seconds(i));
  }
  EXPECT_THAT(watch.take_culprits(), ElementsAre(1u));
}

TEST(StallWatch, WhoGivesHalfOfItBackIsJustSlow) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(kMiB, 0), kStart);
  watch.note(1, standing(kMiB, kMiB / 2), kStart + seconds(30));
  EXPECT_THAT(watch.take_culprits(), IsEmpty());
  // And is judged again by the next window.
  watch.note(1, standing(kMiB, kMiB / 2 + 1), kStart + seconds(60));
  EXPECT_THAT(watch.take_culprits(), ElementsAre(1u));
}

TEST(StallWatch, WhoWaitsForASlowStoreIsNone) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(kMiB, 0, false), kStart);
  watch.note(1, standing(kMiB, 0, false), kStart + seconds(60));
  EXPECT_THAT(watch.take_culprits(), IsEmpty());
  watch.note(1, standing(kMiB, 0), kStart + seconds(60));
  watch.note(1, standing(kMiB, 0, false), kStart + seconds(80));
  watch.note(1, standing(kMiB, 0), kStart + seconds(90));
  EXPECT_THAT(watch.take_culprits(), IsEmpty()) << "not stalled through a whole window";
}

TEST(StallWatch, WhoHoldsNothingOfTheBudgetIsNone) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(0, 0), kStart);
  watch.note(1, standing(0, 0), kStart + seconds(60));
  EXPECT_THAT(watch.take_culprits(), IsEmpty());
}

TEST(StallWatch, AllOfThemAreNamedTheLargestFirst) {
  StallWatch watch(seconds(30));
  for (const auto at : {seconds(0), seconds(30)}) {
    watch.note(1, standing(kMiB, 0), kStart + at);
    watch.note(2, standing(3 * kMiB, 0), kStart + at);
    watch.note(3, standing(2 * kMiB, 0), kStart + at);
    watch.note(4, standing(2 * kMiB, 0, false), kStart + at);
  }
  EXPECT_THAT(watch.take_culprits(), ElementsAre(2u, 3u, 1u));
  EXPECT_THAT(watch.take_culprits(), IsEmpty());
}

TEST(StallWatch, PatienceIsShorterFromCrowdToCrowdUntilNobodyWaits) {
  StallWatch watch(seconds(4));
  TimePoint now = kStart;
  for (const auto patience : {seconds(4), seconds(2), seconds(1), seconds(1)}) {
    EXPECT_EQ(watch.patience(), patience);
    watch.note(1, standing(kMiB, 0), now);
    watch.note(2, standing(kMiB, 0), now);
    now += patience;
    watch.note(1, standing(kMiB, 0), now);
    watch.note(2, standing(kMiB, 0), now);
    EXPECT_THAT(watch.take_culprits(), ElementsAre(2u, 1u));
  }
  watch.relieve();
  EXPECT_EQ(watch.patience(), seconds(4));
  EXPECT_EQ(StallWatch(std::chrono::milliseconds(10)).patience(), std::chrono::milliseconds(10));
}

}  // namespace
}  // namespace blockmig::nbd

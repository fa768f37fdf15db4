// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/stall_watch.h"

#include <gtest/gtest.h>

namespace blockmig::nbd {
namespace {

using std::chrono::seconds;

constexpr std::uint64_t kMiB = 1 << 20;
const TimePoint kStart{};

MemoryStanding standing(std::uint64_t held, std::uint64_t given, bool waits = true) {
  return {held, given, waits ? 1u : 0u};
}

TEST(StallWatch, NamesWhoGivesNothingBackThroughAWholeWindow) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(kMiB, 0), kStart);
  watch.note(1, standing(kMiB, 0), kStart + seconds(29));
  EXPECT_FALSE(watch.culprit());
  watch.note(1, standing(kMiB, 0), kStart + seconds(30));
  EXPECT_EQ(watch.culprit(), 1u);
}

TEST(StallWatch, DrippingAByteNowAndThenDoesNotHelp) {
  StallWatch watch(seconds(30));
  for (int i = 0; i <= 30; ++i) {
    watch.note(1, standing(kMiB, static_cast<std::uint64_t>(i)), kStart + seconds(i));
  }
  EXPECT_EQ(watch.culprit(), 1u);
}

TEST(StallWatch, WhoGivesHalfOfItBackIsJustSlow) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(kMiB, 0), kStart);
  watch.note(1, standing(kMiB, kMiB / 2), kStart + seconds(30));
  EXPECT_FALSE(watch.culprit());
  // And is judged again by the next window.
  watch.note(1, standing(kMiB, kMiB / 2 + 1), kStart + seconds(60));
  EXPECT_EQ(watch.culprit(), 1u);
}

TEST(StallWatch, WhoWaitsForASlowStoreIsNone) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(kMiB, 0, false), kStart);
  watch.note(1, standing(kMiB, 0, false), kStart + seconds(60));
  EXPECT_FALSE(watch.culprit());
  watch.note(1, standing(kMiB, 0), kStart + seconds(60));
  watch.note(1, standing(kMiB, 0, false), kStart + seconds(80));
  watch.note(1, standing(kMiB, 0), kStart + seconds(90));
  EXPECT_FALSE(watch.culprit()) << "not stalled through a whole window";
}

TEST(StallWatch, WhoHoldsNothingOfTheBudgetIsNone) {
  StallWatch watch(seconds(30));
  watch.note(1, standing(0, 0), kStart);
  watch.note(1, standing(0, 0), kStart + seconds(60));
  EXPECT_FALSE(watch.culprit());
}

TEST(StallWatch, TheLargestComesFirstAndForgottenOnesAreGone) {
  StallWatch watch(seconds(30));
  for (const auto at : {seconds(0), seconds(30)}) {
    watch.note(1, standing(kMiB, 0), kStart + at);
    watch.note(2, standing(3 * kMiB, 0), kStart + at);
    watch.note(3, standing(2 * kMiB, 0), kStart + at);
  }
  EXPECT_EQ(watch.culprit(), 2u);
  watch.forget(2);
  EXPECT_EQ(watch.culprit(), 3u);
  watch.clear();
  EXPECT_FALSE(watch.culprit());
}

}  // namespace
}  // namespace blockmig::nbd

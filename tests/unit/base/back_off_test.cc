// SPDX-License-Identifier: Apache-2.0
#include "blockmig/base/back_off.h"

#include <gtest/gtest.h>

#include <limits>

namespace blockmig {
namespace {

using namespace std::chrono_literals;

TEST(BackOff, DoublesUpToItsLongest) {
  const BackOff back_off{20ms, 1s};
  EXPECT_EQ(back_off.after(0), 20ms);
  EXPECT_EQ(back_off.after(1), 40ms);
  EXPECT_EQ(back_off.after(5), 640ms);
  EXPECT_EQ(back_off.after(6), 1s);
  EXPECT_EQ(back_off.after(7), 1s);
}

TEST(BackOff, StaysThereAfterAnyNumberOfFailures) {
  EXPECT_EQ(kStoreBackOff.after(std::numeric_limits<unsigned>::max()), kStoreBackOff.longest);
}

TEST(BackOff, IsNeverLongerThanItsLongest) {
  EXPECT_EQ((BackOff{5s, 2s}).after(0), 2s);
  EXPECT_EQ((BackOff{5s, 2s}).after(3), 2s);
  EXPECT_EQ((BackOff{2s, 2s}).after(0), 2s);
}

}  // namespace
}  // namespace blockmig

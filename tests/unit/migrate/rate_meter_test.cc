// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/rate_meter.h"

#include <gtest/gtest.h>

namespace blockmig {
namespace {

using std::chrono::milliseconds;
const TimePoint kStart{std::chrono::hours(1)};

TEST(RateMeter, IsTheRateOfTheLastSecond) {
  RateMeter meter;
  for (unsigned i = 0; i <= 30; ++i) meter.sample(kStart + i * milliseconds(100), i * 1000);
  EXPECT_EQ(meter.bytes_per_second(), 10'000U);
}

TEST(RateMeter, WhereTheCounterFallsItBeginsAnew) {
  RateMeter meter;
  meter.sample(kStart, 1'000'000);
  meter.sample(kStart + milliseconds(100), 2'000'000);
  meter.sample(kStart + milliseconds(200), 500);
  EXPECT_EQ(meter.bytes_per_second(), 0U);
  meter.sample(kStart + milliseconds(300), 600);
  EXPECT_EQ(meter.bytes_per_second(), 1000U);
}

}  // namespace
}  // namespace blockmig

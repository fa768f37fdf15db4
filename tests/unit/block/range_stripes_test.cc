// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/range_stripes.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

namespace blockmig {
namespace {

using Access = RangeStripes::Access;
using Against = RangeStripes::Against;

constexpr ByteRange kHere{0, 512};
constexpr ByteRange kElsewhere{10 * RangeStripes::kUnitBytes, 512};

class RangeStripesTest : public testing::Test {
 protected:
  bool may(ByteRange range, Access access, Against against = Against::kAll) {
    return static_cast<bool>(stripes_.try_call(range, access, against));
  }
  RangeStripes stripes_;
};

TEST_F(RangeStripesTest, ReadersShareAndWritersAreAlone_I2) {
  {
    const auto reader = stripes_.try_call(kHere, Access::kRead, Against::kAll);
    ASSERT_TRUE(reader);
    EXPECT_TRUE(may(kHere, Access::kRead));
    EXPECT_FALSE(may(kHere, Access::kWrite));
    EXPECT_TRUE(may(kElsewhere, Access::kWrite));
  }
  const auto writer = stripes_.try_call(kHere, Access::kWrite, Against::kAll);
  ASSERT_TRUE(writer);
  EXPECT_FALSE(may(kHere, Access::kRead));
  EXPECT_FALSE(may(kHere, Access::kWrite));
  EXPECT_FALSE(may(kHere, Access::kWrite, Against::kCalls));
  EXPECT_TRUE(may(kElsewhere, Access::kRead));
}

TEST_F(RangeStripesTest, ARefusedCallHoldsNothing) {
  const auto writer =
      stripes_.try_call({3 * RangeStripes::kUnitBytes, 1}, Access::kWrite, Against::kAll);
  ASSERT_TRUE(writer);
  // Its first three stripes are free, its fourth is not.
  EXPECT_FALSE(may({0, 4 * RangeStripes::kUnitBytes}, Access::kWrite));
  EXPECT_TRUE(may({0, 3 * RangeStripes::kUnitBytes}, Access::kWrite));
}

TEST_F(RangeStripesTest, AnAnnouncementRefusesNewCallsAndWaitsForThoseInside_I2) {
  auto inside =
      std::make_unique<RangeStripes::Call>(stripes_.try_call(kHere, Access::kRead, Against::kAll));
  ASSERT_TRUE(*inside);
  {
    RangeStripes::Async writing = stripes_.announce(kHere, Access::kWrite);
    EXPECT_FALSE(writing.clear());
    EXPECT_FALSE(may(kHere, Access::kRead)) << "or the request could wait for ever";
    EXPECT_TRUE(may(kHere, Access::kRead, Against::kCalls));
    inside.reset();
    EXPECT_TRUE(writing.clear());
    EXPECT_FALSE(may(kHere, Access::kRead));
    EXPECT_FALSE(may(kHere, Access::kWrite));
  }
  EXPECT_TRUE(may(kHere, Access::kWrite));
}

TEST_F(RangeStripesTest, AnAsynchronousReadKeepsWritersOutOnly) {
  RangeStripes::Async reading = stripes_.announce(kHere, Access::kRead);
  EXPECT_TRUE(reading.clear());
  EXPECT_TRUE(may(kHere, Access::kRead));
  EXPECT_FALSE(may(kHere, Access::kWrite));
  RangeStripes::Async also = stripes_.announce(kHere, Access::kWrite);
  EXPECT_TRUE(also.clear()) << "asynchronous requests are kept apart elsewhere";
}

TEST_F(RangeStripesTest, ARangeLongerThanAllStripesTakesEachOnce) {
  const ByteRange all{12345, 3 * RangeStripes::kStripes * RangeStripes::kUnitBytes};
  {
    const auto call = stripes_.try_call(all, Access::kWrite, Against::kAll);
    ASSERT_TRUE(call);
    EXPECT_FALSE(may(kElsewhere, Access::kRead));
  }
  RangeStripes::Async async = stripes_.announce(all, Access::kWrite);
  EXPECT_TRUE(async.clear());
  EXPECT_FALSE(may(kElsewhere, Access::kRead));
}

TEST_F(RangeStripesTest, AnEmptyRangeIsNeverInTheWay) {
  const auto call = stripes_.try_call({4096, 0}, Access::kWrite, Against::kAll);
  EXPECT_TRUE(call);
  EXPECT_TRUE(may({0, 65536}, Access::kWrite));
  RangeStripes::Async async = stripes_.announce({4096, 0}, Access::kWrite);
  EXPECT_TRUE(async.clear());
}

TEST_F(RangeStripesTest, NoThreadSeesAWriteHalfDone_I2) {
  // Plain memory: the sanitizer for threads sees a race too where the stripes let one through.
  std::array<int, 16> sector{};
  std::atomic<int> torn{0};
  const auto work = [&](int id) {
    for (int i = 0; i < 20'000; ++i) {
      if (i % 4 == id % 4) {
        const auto call = stripes_.try_call(kHere, Access::kWrite, Against::kAll);
        if (!call) continue;
        for (int& word : sector) word = id * 100'000 + i;
      } else {
        const auto call = stripes_.try_call(kHere, Access::kRead, Against::kAll);
        if (!call) continue;
        for (const int word : sector) torn += word != sector[0] ? 1 : 0;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int id = 0; id < 3; ++id) threads.emplace_back(work, id);
  // The loop's side, meanwhile.
  for (int i = 0; i < 2'000; ++i) {
    RangeStripes::Async async = stripes_.announce(kHere, Access::kWrite);
    while (!async.clear()) std::this_thread::yield();
    for (int& word : sector) word = -i;
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(torn, 0);
}

}  // namespace
}  // namespace blockmig

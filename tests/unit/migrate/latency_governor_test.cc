// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/latency_governor.h"

#include <gtest/gtest.h>

#include "blockmig/base/bytes.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

using Window = LatencyGovernor::Window;
using Pace = LatencyGovernor::Pace;

TEST(LatencyGovernor, Table) {
  struct Row {
    Window window;
    Pace pace;
    const char* why;
  };
  LatencyGovernor governor(milliseconds(10), 8);
  EXPECT_EQ(governor.pace(), (Pace{0, 2}));
  const Row rows[] = {
      {{500, milliseconds(2), 400 * kMiB}, {0, 3}, "room: deeper, and no rate limit"},
      {{500, milliseconds(2), 400 * kMiB}, {0, 4}, "room"},
      {{500, milliseconds(8), 400 * kMiB}, {0, 4}, "between: stays"},
      {{500, milliseconds(11), 400 * kMiB}, {200 * kMiB, 2}, "too slow: half of what it did"},
      {{500, milliseconds(12), 200 * kMiB}, {100 * kMiB, 1}, "again"},
      {{500, milliseconds(9), 100 * kMiB}, {100 * kMiB, 1}, "between: stays"},
      {{500, milliseconds(5), 100 * kMiB}, {125 * kMiB, 2}, "a step of a 16th of its best"},
      {{0, milliseconds(0), 125 * kMiB}, {150 * kMiB, 3}, "no guest: a step more"},
      {{500, milliseconds(5), 20 * kMiB}, {150 * kMiB, 4}, "not used up: no higher"},
      {{500, milliseconds(50), 20 * kMiB},
       {10 * kMiB, 2},
       "half of what it does, not of the limit"},
      {{500, milliseconds(50), 1 * kMiB}, {1 * kMiB, 1}, "never below the least"},
  };
  for (const Row& row : rows) {
    governor.observe(row.window);
    EXPECT_EQ(governor.pace(), row.pace)
        << row.why << ": " << governor.pace().bytes_per_second / kMiB << " MiB/s, depth "
        << governor.pace().depth;
  }
}

TEST(LatencyGovernor, SaysWhenTheCopierIsNotWhatMakesTheGuestSlow) {
  LatencyGovernor governor(milliseconds(1), 8);
  for (int i = 0; i < 40; ++i) governor.observe({500, milliseconds(9), kMiB});
  EXPECT_EQ(governor.pace(), (Pace{LatencyGovernor::kLeastRate, 1}));
  EXPECT_TRUE(governor.helpless());
  governor.observe({500, std::chrono::microseconds(100), kMiB});
  EXPECT_FALSE(governor.helpless());
}

/// A store whose guest latency grows with the copier's rate: the pace stays near the limit, below
/// it for most of the windows, and makes headway.
TEST(LatencyGovernor, FindsThePaceOfAStoreAndKeepsIt) {
  LatencyGovernor governor(milliseconds(10), 8);
  std::uint64_t over = 0;
  std::uint64_t copied = 0;
  for (int window = 0; window < 400; ++window) {
    const std::uint64_t possible = governor.pace().depth * 100 * kMiB;
    const std::uint64_t limit = governor.pace().bytes_per_second;
    const std::uint64_t rate = limit == 0 ? possible : std::min(limit, possible);
    const Duration p99 = milliseconds(1) + milliseconds(rate / (20 * kMiB));  // 180 MiB/s: 10 ms
    if (window >= 50) {
      copied += rate;
      if (p99 > milliseconds(10)) ++over;
    }
    governor.observe({500, p99, rate});
  }
  EXPECT_LT(over, 100u);
  EXPECT_GT(copied / 350, 90 * kMiB);
}

TEST(LatencyGovernor, WithoutAGuestItEndsWithoutALimit) {
  LatencyGovernor governor(milliseconds(10), 8);
  governor.observe({500, milliseconds(30), 400 * kMiB});
  EXPECT_NE(governor.pace().bytes_per_second, 0u);
  for (int window = 0; window < 200; ++window) {
    const std::uint64_t limit = governor.pace().bytes_per_second;
    governor.observe({0, {}, limit == 0 ? 400 * kMiB : std::min<std::uint64_t>(limit, 400 * kMiB)});
  }
  EXPECT_EQ(governor.pace(), (Pace{0, 8}));
}

}  // namespace
}  // namespace blockmig

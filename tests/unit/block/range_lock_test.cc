// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/range_lock.h"

#include <gtest/gtest.h>

#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

struct Trace {
  std::vector<int> started;
  std::vector<ByteRange> inside;
  bool overlapped = false;
  std::size_t most = 0;
};

Task<void> hold_range(SimLoop& loop, RangeLock& lock, ByteRange range, int id, Duration time,
                      Trace& trace) {
  RangeLock::Hold hold = co_await lock.lock(range);
  trace.started.push_back(id);
  for (const ByteRange& other : trace.inside) trace.overlapped |= other.overlaps(range);
  trace.inside.push_back(range);
  trace.most = std::max(trace.most, trace.inside.size());
  co_await sleep_for(loop, time);
  std::erase(trace.inside, range);
  hold.release();
}

/// Widens its hold while it has it.
Task<void> hold_and_widen(SimLoop& loop, RangeLock& lock, ByteRange range, ByteRange outer, int id,
                          Duration time, Trace& trace) {
  RangeLock::Hold hold = co_await lock.lock(range);
  trace.inside.push_back(range);
  co_await sleep_for(loop, time);
  std::erase(trace.inside, range);
  hold = co_await hold.widen(outer);
  trace.started.push_back(id);
  for (const ByteRange& other : trace.inside) trace.overlapped |= other.overlaps(outer);
  trace.inside.push_back(outer);
  co_await sleep_for(loop, time);
  std::erase(trace.inside, outer);
}

TEST(RangeLock, OverlappingRangesWaitInOrderOthersDoNot) {
  Random random(1);
  SimLoop loop(random);
  RangeLock lock(loop);
  Trace trace;
  TaskScope scope;
  const Duration time = std::chrono::milliseconds(1);
  scope.spawn(hold_range(loop, lock, {0, 10}, 1, time, trace));
  scope.spawn(hold_range(loop, lock, {5, 10}, 2, time, trace));
  scope.spawn(
      hold_range(loop, lock, {12, 10}, 3, time, trace));  // behind 2, although 1 leaves it free
  scope.spawn(hold_range(loop, lock, {100, 10}, 4, time, trace));
  EXPECT_EQ(trace.started, (std::vector<int>{1, 4}));
  run_task(loop, join_all(scope));
  EXPECT_EQ(trace.started, (std::vector<int>{1, 4, 2, 3}));
  EXPECT_FALSE(trace.overlapped);
}

/// Waits until those before it are through.
Task<void> pass_range(RangeLock& lock, ByteRange range, int id, Trace& trace) {
  co_await lock.passed(range);
  trace.started.push_back(id);
}

TEST(RangeLock, WhoOnlyPassesWaitsForEarlierOnesAndHoldsUpNobody) {
  Random random(1);
  SimLoop loop(random);
  RangeLock lock(loop);
  Trace trace;
  TaskScope scope;
  const Duration time = std::chrono::milliseconds(1);
  scope.spawn(hold_range(loop, lock, {0, 10}, 1, time, trace));
  scope.spawn(pass_range(lock, {0, 100}, 2, trace));
  EXPECT_TRUE(lock.touches({5, 1}));
  EXPECT_FALSE(lock.touches({50, 10}));
  EXPECT_EQ(lock.untouched_part({5, 20}).length, 0U);
  EXPECT_EQ(lock.untouched_part({10, 20}).length, 20U);
  scope.spawn(hold_range(loop, lock, {50, 10}, 3, 5 * time, trace));  // later: nobody's matter
  EXPECT_EQ(lock.untouched_part({10, 100}).length, 40U);
  scope.spawn(pass_range(lock, {70, 10}, 4, trace));
  EXPECT_EQ(trace.started, (std::vector<int>{1, 3, 4}));
  run_task(loop, sleep_for(loop, 2 * time));
  EXPECT_EQ(trace.started, (std::vector<int>{1, 3, 4, 2}));
  run_task(loop, join_all(scope));
}

TEST(RangeLock, WhoWidensKeepsItsPlaceBeforeThoseThatWaitForIt_I2) {
  Random random(1);
  SimLoop loop(random);
  RangeLock lock(loop);
  Trace trace;
  TaskScope scope;
  const Duration time = std::chrono::milliseconds(1);
  scope.spawn(hold_and_widen(loop, lock, {10, 10}, {0, 100}, 1, time, trace));
  scope.spawn(hold_range(loop, lock, {15, 10}, 2, time, trace));      // waits for it
  scope.spawn(hold_range(loop, lock, {50, 10}, 3, 3 * time, trace));  // inside already
  scope.spawn(hold_range(loop, lock, {0, 100}, 4, time, trace));
  run_task(loop, join_all(scope));
  EXPECT_EQ(trace.started, (std::vector<int>{3, 1, 2, 4}));
  EXPECT_FALSE(trace.overlapped);
}

TEST(RangeLock, SeveralWidenToTheSameRangeOneAfterTheOther) {
  Random random(1);
  SimLoop loop(random);
  RangeLock lock(loop);
  Trace trace;
  TaskScope scope;
  for (int i = 0; i < 8; ++i) {
    const ByteRange range{static_cast<std::uint64_t>(i) * 10, 10};
    const Duration time = std::chrono::microseconds(random.between(1, 500));
    scope.spawn(hold_and_widen(loop, lock, range, {0, 100}, i, time, trace));
  }
  run_task(loop, join_all(scope));
  EXPECT_EQ(trace.started.size(), 8u);
  EXPECT_FALSE(trace.overlapped);
}

void expect_random_ranges_apart(std::uint64_t seed, std::uint64_t scale) {
  Random random(seed);
  SimLoop loop(random);
  RangeLock lock(loop);
  Trace trace;
  TaskScope scope;
  for (int i = 0; i < 100; ++i) {
    const ByteRange range{random.below(50) * 8 * scale, 1 + random.below(40 * scale)};
    const Duration time = std::chrono::microseconds(random.below(500));
    if (random.chance(1, 4)) {
      const ByteRange outer{align_down(range.offset, 64 * scale), 128 * scale};
      scope.spawn(hold_and_widen(loop, lock, range, outer, i, time, trace));
    } else {
      scope.spawn(hold_range(loop, lock, range, i, time, trace));
    }
  }
  run_task(loop, join_all(scope));
  EXPECT_EQ(trace.started.size(), 100u);
  EXPECT_FALSE(trace.overlapped) << "seed " << seed << ", scale " << scale;
  EXPECT_GT(trace.most, 1u);
  EXPECT_FALSE(lock.touches({0, 1000 * scale}));
}

// The scales put the ranges into one unit of those that are counted, over a few, and over more than
// there are counts for.
TEST(RangeLock, RandomRangesNeverOverlapAndAllGetTheirTurn) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    for (const std::uint64_t scale : {std::uint64_t{1}, 4 * kKiB, 32 * kKiB, 4 * kMiB}) {
      expect_random_ranges_apart(seed, scale);
    }
  }
}

}  // namespace
}  // namespace blockmig

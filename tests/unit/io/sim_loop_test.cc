// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/sim_loop.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

Task<void> wander(SimLoop& loop, Random& random, int name, std::vector<int>& log) {
  for (int i = 0; i < 20; ++i) {
    log.push_back(name);
    co_await sleep_for(loop, std::chrono::microseconds(random.below(5)));
    const int answer = co_await offload(loop, [name] { return name; });
    EXPECT_EQ(answer, name);
  }
}

struct History {
  std::vector<int> log;
  std::uint64_t trace = 0;
  TimePoint end;
  friend bool operator==(const History&, const History&) = default;
};

History run_with(std::uint64_t seed) {
  Random random(seed);
  SimLoop loop(random);
  TaskScope scope;
  History run;
  for (int name = 0; name < 8; ++name) scope.spawn(wander(loop, random, name, run.log));
  loop.run();
  run.trace = loop.trace_hash();
  run.end = loop.now();
  return run;
}

TEST(SimLoop, OneSeedGivesOneRun) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    EXPECT_EQ(run_with(seed), run_with(seed)) << "seed " << seed;
  }
}

TEST(SimLoop, SeedsGiveDifferentRuns) {
  std::set<std::uint64_t> traces;
  std::set<std::vector<int>> logs;
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    const History run = run_with(seed);
    traces.insert(run.trace);
    logs.insert(run.log);
  }
  EXPECT_EQ(traces.size(), 50u);
  EXPECT_GT(logs.size(), 45u);
}

std::vector<int> order_with(std::uint64_t seed) {
  Random random(seed);
  SimLoop loop(random);
  std::vector<int> order;
  for (int i = 0; i < 8; ++i) loop.post([&order, i] { order.push_back(i); });
  loop.run();
  return order;
}

TEST(SimLoop, TheSeedDrawsTheOrderOfWhatIsReady) {
  std::set<std::vector<int>> orders;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const std::vector<int> order = order_with(seed);
    EXPECT_EQ(order, order_with(seed)) << "seed " << seed;
    EXPECT_EQ(std::set<int>(order.begin(), order.end()).size(), 8u) << "each runs once";
    orders.insert(order);
  }
  EXPECT_GT(orders.size(), 90u);
}

TEST(SimLoop, TimeJumpsToTheNextTimer) {
  Random random(1);
  SimLoop loop(random);
  run_task(loop, sleep_for(loop, std::chrono::hours(24 * 365)));
  EXPECT_EQ(loop.now(), TimePoint{} + std::chrono::hours(24 * 365));
}

TEST(SimLoop, RunEndsWhenThereIsNothingToDoAndOnStop) {
  Random random(1);
  SimLoop loop(random);
  loop.run();
  int called = 0;
  loop.post([&] {
    ++called;
    loop.stop();
  });
  Timer timer(loop, [&called] { ++called; });
  timer.arm(TimePoint{} + std::chrono::seconds(1));
  loop.run();
  EXPECT_EQ(called, 1);
  loop.run();
  EXPECT_EQ(called, 2);
}

TEST(SimLoop, StopBeforeRunIsNotLost) {
  Random random(1);
  SimLoop loop(random);
  int called = 0;
  loop.post([&called] { ++called; });
  loop.stop();
  loop.run();
  EXPECT_EQ(called, 0);
  loop.run();
  EXPECT_EQ(called, 1);
}

TEST(SimLoop, MayBeDestroyedWithWorkUnderWay) {
  Random random(1);
  bool worked = false;
  bool completed = false;
  {
    SimLoop loop(random);
    loop.run_blocking([&worked] { worked = true; }, [&completed] { completed = true; });
  }
  EXPECT_TRUE(worked);
  EXPECT_FALSE(completed);
}

}  // namespace
}  // namespace blockmig

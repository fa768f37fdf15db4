// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/timer_heap.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig {
namespace {

/// A loop that only lends its timers to a heap under test.
class HeapLoop final : public EventLoop {
 public:
  TimePoint now() const override { return {}; }
  void run() override {}
  void stop() override {}
  void defer(std::coroutine_handle<>) override {}
  void post(std::function<void()>) override {}
  void run_blocking(std::function<void()>, std::function<void()>) override {}
  void arm_timer(Timer& timer, TimePoint when) override { heap.arm(timer, when); }
  void disarm_timer(Timer& timer) override { heap.disarm(timer); }

  TimerHeap heap;
};

TimePoint at(std::uint64_t ticks) { return TimePoint{} + Duration(ticks); }

TEST(TimerHeap, AgreesWithASortedListUnderRandomUse) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Random random(seed);
    HeapLoop loop;
    std::size_t fired = 0;
    std::vector<std::unique_ptr<Timer>> timers;
    std::vector<std::size_t> log;
    for (std::size_t i = 0; i < 100; ++i) {
      timers.push_back(std::make_unique<Timer>(loop, [&log, i] { log.push_back(i); }));
    }
    // The oracle: armed timers by time, then by order of arming.
    std::set<std::tuple<TimePoint, std::uint64_t, std::size_t>> oracle;
    std::vector<std::uint64_t> order(timers.size());
    std::uint64_t arms = 0;
    for (int step = 0; step < 5000; ++step) {
      const std::size_t i = random.below(timers.size());
      if (timers[i]->armed()) oracle.erase({timers[i]->when(), order[i], i});
      if (random.chance(2, 3)) {
        timers[i]->arm(at(random.below(50)));
        order[i] = arms++;
        oracle.insert({timers[i]->when(), order[i], i});
      } else {
        timers[i]->disarm();
        EXPECT_FALSE(timers[i]->armed());
      }
      const TimePoint time = at(random.below(50));
      if (random.chance(1, 4) && loop.heap.fire_due(time)) {
        ASSERT_EQ(log.size(), ++fired);
        ASSERT_FALSE(oracle.empty());
        ASSERT_EQ(log.back(), std::get<2>(*oracle.begin())) << "seed " << seed;
        ASSERT_LE(std::get<0>(*oracle.begin()), time);
        oracle.erase(oracle.begin());
      } else if (!oracle.empty()) {
        ASSERT_EQ(loop.heap.earliest(), std::get<0>(*oracle.begin()));
      }
      ASSERT_EQ(loop.heap.empty(), oracle.empty());
    }
  }
}

TEST(TimerHeap, FiresNothingBeforeItsTime) {
  HeapLoop loop;
  int fired = 0;
  Timer timer(loop, [&fired] { ++fired; });
  timer.arm(at(10));
  EXPECT_FALSE(loop.heap.fire_due(at(9)));
  EXPECT_TRUE(loop.heap.fire_due(at(10)));
  EXPECT_EQ(fired, 1);
  EXPECT_FALSE(loop.heap.fire_due(at(100))) << "once per arm()";
}

TEST(TimerHeap, ATimerMayArmItselfAgainWhileFiring) {
  HeapLoop loop;
  int fired = 0;
  Timer* self = nullptr;
  Timer timer(loop, [&] {
    if (++fired < 3) self->arm(at(10 + static_cast<std::uint64_t>(fired)));
  });
  self = &timer;
  timer.arm(at(10));
  EXPECT_TRUE(loop.heap.fire_due(at(100)));
  EXPECT_TRUE(timer.armed());
  EXPECT_TRUE(loop.heap.fire_due(at(100)));
  EXPECT_TRUE(loop.heap.fire_due(at(100)));
  EXPECT_FALSE(loop.heap.fire_due(at(100)));
  EXPECT_EQ(fired, 3);
}

TEST(TimerHeap, ATimerMayDestroyItselfWhileFiring) {
  HeapLoop loop;
  auto seen = std::make_shared<int>(0);
  auto timer = std::make_unique<std::unique_ptr<Timer>>();
  auto& slot = *timer;
  slot = std::make_unique<Timer>(loop, [&slot, seen] {
    slot.reset();
    ++*seen;  // the capture outlives the timer
  });
  slot->arm(at(1));
  EXPECT_TRUE(loop.heap.fire_due(at(1)));
  EXPECT_EQ(*seen, 1);
  EXPECT_TRUE(loop.heap.empty());
}

TEST(TimerHeap, DestroyingAnArmedTimerDisarmsIt) {
  HeapLoop loop;
  int fired = 0;
  {
    Timer timer(loop, [&fired] { ++fired; });
    timer.arm(at(1));
  }
  EXPECT_FALSE(loop.heap.fire_due(at(5)));
  EXPECT_EQ(fired, 0);
}

}  // namespace
}  // namespace blockmig

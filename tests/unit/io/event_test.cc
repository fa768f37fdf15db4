// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/event.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/semaphore.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class EventTest : public testing::Test {
 protected:
  Random random_{3};
  SimLoop loop_{random_};
  TaskScope scope_;
};

Task<void> wait_until(Event& event, TimePoint deadline, std::optional<bool>& outcome) {
  const bool was_set = co_await event.wait_until(deadline);
  outcome = was_set;
}

Task<void> wait_for(Event& event, std::optional<bool>& outcome) {
  const bool was_set = co_await event.wait();
  outcome = was_set;
}

TEST_F(EventTest, SetWakesEverybodyAndStays) {
  Event event(loop_);
  std::optional<bool> first;
  std::optional<bool> second;
  std::optional<bool> late;
  scope_.spawn(wait_for(event, first));
  scope_.spawn(wait_until(event, loop_.now() + milliseconds(9), second));
  event.set();
  EXPECT_FALSE(first) << "waiters are resumed by the loop, not by set()";
  loop_.run();
  EXPECT_EQ(first, true);
  EXPECT_EQ(second, true);
  EXPECT_EQ(loop_.now(), TimePoint{}) << "the deadline's timer was disarmed";
  scope_.spawn(wait_for(event, late));
  EXPECT_EQ(late, true);
}

TEST_F(EventTest, DeadlineGivesFalseAndLeavesTheOthersWaiting) {
  Event event(loop_);
  std::optional<bool> patient;
  std::optional<bool> hasty;
  scope_.spawn(wait_for(event, patient));
  scope_.spawn(wait_until(event, loop_.now() + milliseconds(2), hasty));
  loop_.run();
  EXPECT_EQ(hasty, false);
  EXPECT_FALSE(patient);
  EXPECT_TRUE(event.has_waiters());
  event.set();
  loop_.run();
  EXPECT_EQ(patient, true);
  EXPECT_FALSE(event.has_waiters());
}

TEST_F(EventTest, PulseWakesOnlyThoseWhoWaitNow) {
  Event event(loop_);
  std::optional<bool> now;
  std::optional<bool> later;
  scope_.spawn(wait_for(event, now));
  event.pulse();
  scope_.spawn(wait_for(event, later));
  loop_.run();
  EXPECT_EQ(now, true);
  EXPECT_FALSE(later);
  event.set();
  event.reset();
  loop_.run();
  EXPECT_EQ(later, true);
  EXPECT_FALSE(event.is_set());
}

TEST_F(EventTest, MayBeDestroyedBeforeAWokenWaiterRuns) {
  auto event = std::make_unique<Event>(loop_);
  std::optional<bool> outcome;
  scope_.spawn(wait_until(*event, loop_.now() + milliseconds(2), outcome));
  event->set();
  event.reset();
  loop_.run();
  EXPECT_EQ(outcome, true);
}

Task<void> use(Semaphore& semaphore, std::uint64_t units, int name, std::vector<int>& order,
               Event& leave) {
  co_await semaphore.acquire(units);
  order.push_back(name);
  co_await leave.wait();
  semaphore.release(units);
}

TEST_F(EventTest, SemaphoreIsFifoSoALargeRequestIsNotStarved) {
  Semaphore semaphore(loop_, 10);
  Event leave_first(loop_);
  Event leave_rest(loop_);
  std::vector<int> order;
  scope_.spawn(use(semaphore, 6, 1, order, leave_first));
  scope_.spawn(use(semaphore, 8, 2, order, leave_rest));  // does not fit beside 1
  scope_.spawn(use(semaphore, 1, 3, order, leave_rest));  // would fit, but came later
  EXPECT_EQ(order, std::vector<int>({1}));
  EXPECT_TRUE(semaphore.has_waiters());
  leave_first.set();
  loop_.run();
  EXPECT_EQ(semaphore.in_use(), 9u);
  leave_rest.set();
  loop_.run();
  EXPECT_EQ(order.size(), 3u);
  EXPECT_EQ(semaphore.in_use(), 0u);
}

TEST_F(EventTest, SemaphoreAdmitsARequestLargerThanItsCapacityAlone) {
  Semaphore semaphore(loop_, 4);
  Event leave_small(loop_);
  Event leave_large(loop_);
  std::vector<int> order;
  scope_.spawn(use(semaphore, 1, 1, order, leave_small));
  scope_.spawn(use(semaphore, 100, 2, order, leave_large));
  scope_.spawn(use(semaphore, 1, 3, order, leave_small));
  loop_.run();
  EXPECT_EQ(order, std::vector<int>({1}));
  leave_small.set();
  loop_.run();
  EXPECT_EQ(order, std::vector<int>({1, 2}));
  EXPECT_EQ(semaphore.in_use(), 100u);
  leave_large.set();
  loop_.run();
  EXPECT_EQ(order, std::vector<int>({1, 2, 3}));
}

TEST_F(EventTest, CancelSourceCallsBackOnceAndLateRegistrationsAtOnce) {
  CancelSource source(loop_);
  int before = 0;
  int gone = 0;
  int after = 0;
  const CancelSource::Callback first(source, [&before] { ++before; });
  {
    const CancelSource::Callback dropped(source, [&gone] { ++gone; });
  }
  EXPECT_FALSE(source.cancelled());
  source.cancel();
  source.cancel();
  EXPECT_TRUE(source.cancelled());
  EXPECT_EQ(before, 1);
  EXPECT_EQ(gone, 0);
  const CancelSource::Callback late(source, [&after] { ++after; });
  EXPECT_EQ(after, 1);
}

TEST_F(EventTest, CancelSourceCallbackMayDestroyItselfAndOthers) {
  CancelSource source(loop_);
  std::unique_ptr<CancelSource::Callback> first;
  std::unique_ptr<CancelSource::Callback> second;
  int calls = 0;
  first = std::make_unique<CancelSource::Callback>(source, [&] {
    ++calls;
    second.reset();
    first.reset();
  });
  second = std::make_unique<CancelSource::Callback>(source, [&] { ++calls; });
  source.cancel();
  EXPECT_EQ(calls, 1);
}

TEST_F(EventTest, CancellationEndsASleep) {
  CancelSource source(loop_);
  std::optional<bool> cancelled;
  scope_.spawn(wait_until(source.event(), loop_.now() + milliseconds(50), cancelled));
  source.cancel();
  loop_.run();
  EXPECT_EQ(cancelled, true);
  EXPECT_EQ(loop_.now(), TimePoint{});
}

Task<TimePoint> sleep_and_look(SimLoop& loop) {
  co_await sleep_for(loop, milliseconds(5));
  co_return loop.now();
}

TEST_F(EventTest, SleepTakesItsTime) {
  EXPECT_EQ(run_task(loop_, sleep_and_look(loop_)), TimePoint{} + milliseconds(5));
}

Task<int> offload_value(EventLoop& loop) {
  int base = 40;
  const int value = co_await offload(loop, [&base] { return base + 2; });
  co_await offload(loop, [] {});
  co_return value;
}

TEST_F(EventTest, OffloadReturnsTheValue) { EXPECT_EQ(run_task(loop_, offload_value(loop_)), 42); }

}  // namespace
}  // namespace blockmig

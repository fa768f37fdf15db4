// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/gate.h"

#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using State = Gate::State;
using std::chrono::milliseconds;

class GateTest : public testing::Test {
 protected:
  Random random_{7};
  SimLoop loop_{random_};
  Gate gate_{loop_};
  TaskScope scope_;
};

/// Enters and stays until `leave`; notes what happened.
struct Visitor {
  explicit Visitor(EventLoop& loop) : leave(loop) {}
  Event leave;
  bool inside = false;
  bool refused = false;
};

Task<void> visit(Gate& gate, Visitor& visitor) {
  const auto hold = co_await gate.enter();
  if (!hold) {
    visitor.refused = hold.error().code() == ErrorCode::kShutdown;
    co_return;
  }
  visitor.inside = true;
  co_await visitor.leave.wait();
  visitor.inside = false;
}

Task<void> close_gate(Gate& gate, bool& closed) {
  co_await gate.close();
  closed = true;
}

Task<void> close_gate_until(Gate& gate, TimePoint deadline, std::optional<bool>& outcome) {
  const bool drained = co_await gate.close_until(deadline);
  outcome = drained;
}

TEST_F(GateTest, AdmitsAtOnceWhileOpen) {
  Visitor visitor(loop_);
  scope_.spawn(visit(gate_, visitor));
  EXPECT_TRUE(visitor.inside);
  EXPECT_EQ(gate_.inside(), 1u);
  EXPECT_EQ(gate_.state(), State::kOpen);
  visitor.leave.set();
  loop_.run();
  EXPECT_EQ(gate_.inside(), 0u);
}

TEST_F(GateTest, ClosesAtOnceWhenEmpty) {
  bool closed = false;
  scope_.spawn(close_gate(gate_, closed));
  EXPECT_TRUE(closed);
  EXPECT_EQ(gate_.state(), State::kClosed);
}

TEST_F(GateTest, CloseWaitsForEveryHold_Trap3) {
  Visitor first(loop_);
  Visitor second(loop_);
  bool closed = false;
  scope_.spawn(visit(gate_, first));
  scope_.spawn(visit(gate_, second));
  scope_.spawn(close_gate(gate_, closed));
  EXPECT_EQ(gate_.state(), State::kClosing);
  first.leave.set();
  loop_.run();
  EXPECT_FALSE(closed);
  EXPECT_EQ(gate_.state(), State::kClosing);
  second.leave.set();
  loop_.run();
  EXPECT_TRUE(closed);
  EXPECT_EQ(gate_.state(), State::kClosed);
  EXPECT_EQ(gate_.inside(), 0u);
}

TEST_F(GateTest, NobodyEntersWhileClosingOrClosed_Trap2) {
  Visitor before(loop_);
  Visitor while_closing(loop_);
  Visitor while_closed(loop_);
  bool closed = false;
  scope_.spawn(visit(gate_, before));
  scope_.spawn(close_gate(gate_, closed));
  scope_.spawn(visit(gate_, while_closing));
  loop_.run();
  EXPECT_FALSE(while_closing.inside);
  before.leave.set();
  loop_.run();
  ASSERT_TRUE(closed);
  scope_.spawn(visit(gate_, while_closed));
  loop_.run();
  EXPECT_FALSE(while_closing.inside);
  EXPECT_FALSE(while_closed.inside);
  EXPECT_EQ(gate_.inside(), 0u);
  EXPECT_EQ(gate_.parked(), 2u);
  gate_.open();
  loop_.run();
  EXPECT_TRUE(while_closing.inside);
  EXPECT_TRUE(while_closed.inside);
  while_closing.leave.set();
  while_closed.leave.set();
  loop_.run();
}

TEST_F(GateTest, WhoeverIsAdmittedIsCountedAtOnce_Trap1) {
  Visitor parked(loop_);
  bool closed_first = false;
  bool closed_again = false;
  scope_.spawn(close_gate(gate_, closed_first));
  scope_.spawn(visit(gate_, parked));
  gate_.open();
  // Admitted, but the loop has not resumed it yet: a close in this moment must wait for it.
  EXPECT_FALSE(parked.inside);
  EXPECT_EQ(gate_.inside(), 1u);
  scope_.spawn(close_gate(gate_, closed_again));
  EXPECT_FALSE(closed_again);
  EXPECT_EQ(gate_.state(), State::kClosing);
  loop_.run();
  EXPECT_TRUE(parked.inside);
  EXPECT_FALSE(closed_again);
  parked.leave.set();
  loop_.run();
  EXPECT_TRUE(closed_again);
}

TEST_F(GateTest, DeadlinePassesWhileSomebodyStays) {
  Visitor visitor(loop_);
  std::optional<bool> outcome;
  scope_.spawn(visit(gate_, visitor));
  scope_.spawn(close_gate_until(gate_, loop_.now() + milliseconds(5), outcome));
  loop_.run();
  EXPECT_EQ(outcome, false);
  EXPECT_EQ(gate_.state(), State::kClosing);
  gate_.open();
  EXPECT_EQ(gate_.state(), State::kOpen);
  visitor.leave.set();
  loop_.run();
  EXPECT_EQ(gate_.state(), State::kOpen);
}

TEST_F(GateTest, WaitingAgainAfterTheDeadlineEndsWhenTheLastHoldLeft) {
  Visitor visitor(loop_);
  std::optional<bool> outcome;
  scope_.spawn(visit(gate_, visitor));
  scope_.spawn(close_gate_until(gate_, loop_.now() + milliseconds(5), outcome));
  loop_.run();
  ASSERT_EQ(outcome, false);
  outcome.reset();
  scope_.spawn(close_gate_until(gate_, loop_.now() + milliseconds(5), outcome));
  visitor.leave.set();
  loop_.run();
  EXPECT_EQ(outcome, true);
  EXPECT_EQ(gate_.state(), State::kClosed);
}

TEST_F(GateTest, WaitingAgainIsLegalWhenTheGateHasClosedSinceTheDeadline) {
  Visitor visitor(loop_);
  std::optional<bool> outcome;
  scope_.spawn(visit(gate_, visitor));
  scope_.spawn(close_gate_until(gate_, loop_.now() + milliseconds(5), outcome));
  loop_.run();
  ASSERT_EQ(outcome, false);
  visitor.leave.set();
  loop_.run();
  ASSERT_EQ(gate_.state(), State::kClosed);
  outcome.reset();
  scope_.spawn(close_gate_until(gate_, loop_.now() + milliseconds(5), outcome));
  EXPECT_EQ(outcome, true);
}

TEST_F(GateTest, ShutRefusesParkedAndFutureCallers) {
  Visitor parked(loop_);
  Visitor late(loop_);
  bool closed = false;
  scope_.spawn(close_gate(gate_, closed));
  scope_.spawn(visit(gate_, parked));
  gate_.shut();
  loop_.run();
  EXPECT_TRUE(parked.refused);
  scope_.spawn(visit(gate_, late));
  EXPECT_TRUE(late.refused);
  EXPECT_EQ(gate_.inside(), 0u);
  gate_.open();
  EXPECT_EQ(gate_.state(), State::kShut);
}

TEST_F(GateTest, ShutWhileClosingStillResumesTheCloser) {
  Visitor visitor(loop_);
  bool closed = false;
  scope_.spawn(visit(gate_, visitor));
  scope_.spawn(close_gate(gate_, closed));
  gate_.shut();
  loop_.run();
  EXPECT_FALSE(closed);
  visitor.leave.set();
  loop_.run();
  EXPECT_TRUE(closed);
  EXPECT_EQ(gate_.state(), State::kShut);
}

TEST_F(GateTest, CloseOfAShutGateWaitsForWhatIsInside) {
  Visitor visitor(loop_);
  bool closed = false;
  scope_.spawn(visit(gate_, visitor));
  gate_.shut();
  scope_.spawn(close_gate(gate_, closed));
  EXPECT_FALSE(closed);
  visitor.leave.set();
  loop_.run();
  EXPECT_TRUE(closed);
  EXPECT_EQ(gate_.state(), State::kShut);
}

TEST_F(GateTest, ParkedCallersAreCountedInOrderOfArrival) {
  constexpr int kVisitors = 20;
  std::vector<std::unique_ptr<Visitor>> visitors;
  bool closed = false;
  scope_.spawn(close_gate(gate_, closed));
  for (int i = 0; i < kVisitors; ++i) {
    visitors.push_back(std::make_unique<Visitor>(loop_));
    scope_.spawn(visit(gate_, *visitors.back()));
  }
  EXPECT_EQ(gate_.parked(), static_cast<std::size_t>(kVisitors));
  gate_.open();
  EXPECT_EQ(gate_.parked(), 0u);
  EXPECT_EQ(gate_.inside(), static_cast<std::size_t>(kVisitors));
  for (auto& visitor : visitors) visitor->leave.set();
  loop_.run();
  EXPECT_EQ(gate_.inside(), 0u);
}

// The oracle: between a close() that finished and the next open() nobody is inside, whatever the
// order.
struct Watcher {
  bool fenced = false;
  int violations = 0;
};

Task<void> come_and_go(SimLoop& loop, Random& random, Gate& gate, Watcher& watcher) {
  for (int i = 0; i < 50; ++i) {
    {
      const auto hold = co_await gate.enter();
      if (watcher.fenced) ++watcher.violations;
      co_await sleep_for(loop, std::chrono::microseconds(random.below(20)));
      if (watcher.fenced) ++watcher.violations;
    }
    co_await sleep_for(loop, std::chrono::microseconds(random.below(20)));
  }
}

Task<void> close_and_open(SimLoop& loop, Random& random, Gate& gate, Watcher& watcher) {
  for (int i = 0; i < 30; ++i) {
    const TimePoint deadline = loop.now() + std::chrono::microseconds(random.below(40));
    const bool drained = co_await gate.close_until(deadline);
    if (drained) {
      watcher.fenced = true;
      co_await sleep_for(loop, std::chrono::microseconds(random.below(20)));
      watcher.fenced = false;
    }
    gate.open();
    co_await sleep_for(loop, std::chrono::microseconds(random.below(20)));
  }
}

TEST(Gate, NobodyIsInsideBehindTheFenceUnderAnyOrder) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    SimLoop loop(random);
    Gate gate(loop);
    Watcher watcher;
    TaskScope scope;
    for (int i = 0; i < 5; ++i) scope.spawn(come_and_go(loop, random, gate, watcher));
    scope.spawn(close_and_open(loop, random, gate, watcher));
    loop.run();
    ASSERT_EQ(scope.running(), 0u) << "seed " << seed;
    ASSERT_EQ(watcher.violations, 0) << "seed " << seed;
  }
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/gate.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

using State = Gate::State;

Task<void> close_gate(Gate& gate, bool& closed) {
  co_await gate.close();
  closed = true;
}

Task<void> close_only(Gate& gate) { co_await gate.close(); }

class GateShardTest : public testing::Test {
 protected:
  Random random_{7};
  SimLoop loop_{random_};
  Gate gate_{loop_};
  TaskScope scope_;
};

TEST_F(GateShardTest, AdmitsWhileOpenOnly) {
  GateShard shard(gate_);
  EXPECT_TRUE(shard.try_enter());
  shard.leave();
  bool closed = false;
  scope_.spawn(close_gate(gate_, closed));
  EXPECT_TRUE(closed);
  EXPECT_FALSE(shard.try_enter());
  gate_.open();
  EXPECT_TRUE(shard.try_enter());
  shard.leave();
  gate_.shut();
  EXPECT_FALSE(shard.try_enter());
  loop_.run();
}

TEST_F(GateShardTest, CloseWaitsForEveryShard) {
  GateShard first(gate_);
  GateShard second(gate_);
  ASSERT_TRUE(first.try_enter());
  ASSERT_TRUE(second.try_enter());
  bool closed = false;
  scope_.spawn(close_gate(gate_, closed));
  loop_.run();
  EXPECT_FALSE(closed);
  first.leave();
  loop_.run();
  EXPECT_FALSE(closed);
  EXPECT_EQ(gate_.state(), State::kClosing);
  second.leave();
  loop_.run();
  EXPECT_TRUE(closed);
  EXPECT_EQ(gate_.state(), State::kClosed);
  gate_.open();
}

TEST_F(GateShardTest, ARefusedTryLeavesTheGateClosed) {
  GateShard shard(gate_);
  bool closed = false;
  scope_.spawn(close_gate(gate_, closed));
  EXPECT_FALSE(shard.try_enter());
  loop_.run();
  EXPECT_EQ(gate_.state(), State::kClosed);
  gate_.open();
}

/// I3: between close() and open() nobody is inside, whichever thread tried to get in.
TEST(GateShardThreads, I3NobodyIsInsideAClosedGate) {
  constexpr int kThreads = 3;
  constexpr int kRounds = 300;
  auto made = make_io_loop({.kind = LoopKind::kPortable});
  ASSERT_TRUE(made.ok());
  IoLoop& loop = **made;
  auto gate = std::make_unique<Gate>(loop);
  std::vector<std::unique_ptr<GateShard>> shards;
  for (int i = 0; i < kThreads; ++i) shards.push_back(std::make_unique<GateShard>(*gate));
  std::atomic<int> inside = 0;
  std::atomic<std::uint64_t> entered = 0;
  std::atomic<bool> stop = false;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, shard = shards[static_cast<std::size_t>(i)].get()] {
      while (!stop.load()) {
        if (!shard->try_enter()) {
          std::this_thread::yield();
          continue;
        }
        inside.fetch_add(1);
        entered.fetch_add(1);
        inside.fetch_sub(1);
        shard->leave();
      }
    });
  }
  for (int round = 0; round < kRounds; ++round) {
    run_task(loop, close_only(*gate));
    for (int look = 0; look < 50; ++look) ASSERT_EQ(inside.load(), 0) << "round " << round;
    const std::uint64_t before = entered.load();
    gate->open();
    while (entered.load() == before) std::this_thread::yield();
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  shards.clear();
  run_task(loop, close_only(*gate));  // runs what the shards posted last
  gate.reset();
}

}  // namespace
}  // namespace blockmig

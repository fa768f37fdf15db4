// SPDX-License-Identifier: Apache-2.0
// Handshakes whose steps are made off the loop: what else runs meanwhile, and who waits.
#include "blockmig/tls/handshake_steps.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "blockmig/io/io_loop.h"
#include "tls_rig.h"

namespace blockmig {
namespace {

/// A loop that counts what it was given to do off its thread, and how much of it at once.
class CountingLoop final : public EventLoop {
 public:
  explicit CountingLoop(EventLoop& real) : real_(real) {}
  TimePoint now() const override { return real_.now(); }
  void run() override { real_.run(); }
  void stop() override { real_.stop(); }
  void defer(std::coroutine_handle<> handle) override { real_.defer(handle); }
  void post(std::function<void()> callback) override { real_.post(std::move(callback)); }
  void run_blocking(std::function<void()> work, std::function<void()> done) override {
    ++calls;
    most_at_once = std::max(most_at_once, ++at_once);
    real_.run_blocking(std::move(work), [this, done = std::move(done)] {
      --at_once;
      done();
    });
  }
  void arm_timer(Timer& timer, TimePoint when) override { real_.arm_timer(timer, when); }
  void disarm_timer(Timer& timer) override { real_.disarm_timer(timer); }

  int calls = 0;
  int at_once = 0;
  int most_at_once = 0;

 private:
  EventLoop& real_;
};

/// Servers on `loop`, each with a client that is at its other end.
class Handshakes {
 public:
  explicit Handshakes(EventLoop& loop) : loop_(loop), counting(loop), steps(counting, counting) {}
  ~Handshakes() {
    for (auto& each : streams_) each->shutdown();
    run_task(loop_, join());
  }
  TlsStream& add() {
    auto [near, far] = make_pipe(loop_, {.capacity_bytes = 1 << 20});
    streams_.push_back(
        std::make_unique<TlsStream>(std::move(near), client_, std::string(), TlsLimits{}));
    scope_.spawn(shake(*streams_.back(), nullptr));
    streams_.push_back(
        std::make_unique<TlsStream>(std::move(far), server_, std::string(), TlsLimits{}));
    scope_.spawn(shake(*streams_.back(), &steps));
    return *streams_.back();
  }

 private:
  Task<void> shake(TlsStream& stream, HandshakeSteps* where) {
    const Status done = co_await stream.handshake(where);
    if (where != nullptr) ++(done.ok() ? secured : failed);
  }
  Task<void> join() { co_await scope_.join(); }

  EventLoop& loop_;
  const Credentials server_ = psk_server();
  const Credentials client_ = psk_client();
  std::vector<std::unique_ptr<TlsStream>> streams_;
  TaskScope scope_;

 public:
  CountingLoop counting;
  HandshakeSteps steps;
  int secured = 0;
  int failed = 0;
};

/// What a guest of the same loop sees: the most handshakes between two of its turns.
Task<void> watch(EventLoop& loop, Handshakes& handshakes, int all, int* most) {
  int before = 0;
  while (handshakes.secured < all) {
    co_await sleep_for(loop, std::chrono::microseconds(1));
    *most = std::max(*most, handshakes.secured - before);
    before = handshakes.secured;
  }
}

TEST(HandshakeSteps, OthersRunBetweenAnyTwo) {
  constexpr int kMany = 40;
  Random random(1);
  SimLoop loop(random);
  Handshakes handshakes(loop);
  for (int i = 0; i < kMany; ++i) handshakes.add();
  int most = 0;
  run_task(loop, watch(loop, handshakes, kMany, &most));
  EXPECT_EQ(most, 1);
  EXPECT_GE(handshakes.counting.calls, 2 * kMany) << "every step is made off the loop";
  EXPECT_EQ(handshakes.counting.most_at_once, static_cast<int>(HandshakeSteps::kAtOnce));
}

TEST(HandshakeSteps, OnRealThreadsAllAreSecured) {
  constexpr int kMany = 40;
  auto loop = make_io_loop({.kind = LoopKind::kPortable});
  ASSERT_TRUE(loop.ok());
  Handshakes handshakes(**loop);
  for (int i = 0; i < kMany; ++i) handshakes.add();
  int most = 0;
  run_task(**loop, watch(**loop, handshakes, kMany, &most));
  EXPECT_EQ(handshakes.secured, kMany);
  EXPECT_EQ(handshakes.counting.most_at_once, static_cast<int>(HandshakeSteps::kAtOnce));
}

Task<void> take_turn(HandshakeSteps& steps) { return steps.turns.take("somebody"); }

TEST(HandshakeSteps, WhoWaitsIsServedLaterOrLeaves) {
  Random random(1);
  SimLoop loop(random);
  Handshakes handshakes(loop);
  run_task(loop, take_turn(handshakes.steps));
  TlsStream& leaves = handshakes.add();
  handshakes.add();
  run_task(loop, sleep_for(loop, std::chrono::seconds(1)));
  EXPECT_EQ(handshakes.counting.calls, 0);
  leaves.shutdown();
  handshakes.steps.turns.give();
  int most = 0;
  run_task(loop, watch(loop, handshakes, 1, &most));
  EXPECT_EQ(handshakes.failed, 1) << "the one that was shut down while it waited";
  EXPECT_FALSE(handshakes.steps.turns.is_taken());
}

TEST(HandshakeSteps, AStreamMayBeShutDownInTheMiddleOfOne) {
  Random random(1);
  SimLoop loop(random);
  Handshakes handshakes(loop);
  TlsStream& stream = handshakes.add();
  while (handshakes.counting.at_once == 0) {
    run_task(loop, sleep_for(loop, std::chrono::nanoseconds(1)));
  }
  stream.shutdown();
  run_task(loop, sleep_for(loop, std::chrono::seconds(1)));
  EXPECT_EQ(handshakes.failed, 1);
  EXPECT_EQ(handshakes.secured, 0);
}

}  // namespace
}  // namespace blockmig

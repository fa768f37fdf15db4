// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/loop_base.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <coroutine>
#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

/// A loop without I/O that says what LoopBase asks of it.
class ScriptedLoop final : public LoopBase {
 public:
  static ScriptedLoop make(Duration spin) {
    IoLoopOptions options;
    options.spin = spin;
    return ScriptedLoop(options, std::move(*make_wake_fd()));
  }
  ScriptedLoop(const IoLoopOptions& options, UniqueFd wake) : LoopBase(options, std::move(wake)) {}
  ~ScriptedLoop() override { stop_threads(); }

  std::string_view name() const override { return "scripted"; }
  std::unique_ptr<FdWatch> watch(int) override { return nullptr; }
  Task<Result<std::size_t>> read_at(int, MutableBytes, std::uint64_t) override { co_return 0u; }
  Task<Result<std::size_t>> write_at(int, ConstBytes, std::uint64_t, bool) override {
    co_return 0u;
  }
  Task<Status> sync(int) override { co_return Status(); }
  Task<Status> allocate(int, AllocateMode, std::uint64_t, std::uint64_t) override {
    co_return Status();
  }

  /// Wake-ups written to the eventfd so far.
  std::uint64_t wake_ups() {
    std::uint64_t count = 0;
    const ssize_t got = ::read(wake_fd(), &count, sizeof count);
    wake_ups_ += got == sizeof count ? count : 0;
    return wake_ups_;
  }

  using LoopBase::defer_finished;

  std::function<void(std::optional<Duration>)> on_poll = [](std::optional<Duration>) {};
  std::function<bool()> on_look = [] { return false; };

 protected:
  void poll_io(std::optional<Duration> wait) override { on_poll(wait); }
  bool io_ready() override { return on_look(); }

 private:
  std::uint64_t wake_ups_ = 0;
};

bool sleeps(std::optional<Duration> wait) { return !wait || *wait > Duration::zero(); }

// A post between the last look at the queue and the sleep finds the loop awake and writes no
// wake-up: the loop must see it itself. Which look is the last is not said, so each is tried.
TEST(LoopBase, APostJustBeforeTheSleepIsNotSleptThrough) {
  for (int moment = 1; moment <= 64; ++moment) {
    auto loop = ScriptedLoop::make(Duration(1));
    int looks = 0;
    bool slept = false;
    bool called = false;
    loop.on_look = [&] {
      if (++looks == moment) {
        loop.post([&] {
          called = true;
          loop.stop();
        });
      }
      return false;
    };
    loop.on_poll = [&](std::optional<Duration> wait) {
      const bool posted = looks >= moment;
      if (!sleeps(wait) || called) return;
      slept = slept || posted;
      loop.stop();  // instead of sleeping for ever
    };
    loop.run();
    EXPECT_FALSE(slept) << "moment " << moment;
  }
}

TEST(LoopBase, AStopJustBeforeTheSleepIsNotSleptThrough) {
  for (int moment = 1; moment <= 64; ++moment) {
    auto loop = ScriptedLoop::make(Duration(1));
    int looks = 0;
    bool slept = false;
    loop.on_look = [&] {
      if (++looks == moment) loop.stop();
      return false;
    };
    loop.on_poll = [&](std::optional<Duration> wait) {
      if (!sleeps(wait)) return;
      slept = slept || looks >= moment;
      loop.stop();
    };
    loop.run();
    EXPECT_FALSE(slept) << "moment " << moment;
  }
}

TEST(LoopBase, OnlyTheFirstPostToASleepingLoopWritesAWakeUp) {
  auto loop = ScriptedLoop::make(Duration::zero());
  int called = 0;
  loop.post([&called] { ++called; });
  EXPECT_EQ(loop.wake_ups(), 0u) << "the loop is not asleep";
  loop.on_poll = [&](std::optional<Duration> wait) {
    if (!sleeps(wait)) return;
    for (int i = 0; i < 10; ++i) loop.post([&called] { ++called; });
    loop.stop();
  };
  loop.run();
  EXPECT_EQ(loop.wake_ups(), 1u);
  loop.post([&loop] { loop.stop(); });
  loop.run();
  EXPECT_EQ(called, 11);
}

TEST(LoopBase, SleepsUntilTheFirstTimer) {
  auto loop = ScriptedLoop::make(Duration::zero());
  Timer early(loop, [] {});
  Timer late(loop, [] {});
  late.arm(loop.now() + std::chrono::hours(2));
  early.arm(loop.now() + std::chrono::hours(1));
  std::optional<Duration> slept;
  loop.on_poll = [&](std::optional<Duration> wait) {
    if (!sleeps(wait)) return;
    slept = wait;
    loop.stop();
  };
  loop.run();
  ASSERT_TRUE(slept);
  EXPECT_LE(*slept, Duration(std::chrono::hours(1)));
  EXPECT_GT(*slept, Duration(std::chrono::minutes(30)));
}

struct Yield {
  EventLoop& loop;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { loop.defer(handle); }
  void await_resume() const {}
};

Task<void> yield_often(EventLoop& loop, int times, int& left) {
  Yield yield{loop};
  for (int i = 0; i < times; ++i) co_await yield;
  if (--left == 0) loop.stop();
}

/// Looks at I/O while `tasks` resume themselves `times` times each.
int polls_while_busy(int tasks, int times) {
  auto loop = ScriptedLoop::make(Duration::zero());
  int polls = 0;
  loop.on_poll = [&polls](std::optional<Duration> wait) {
    EXPECT_FALSE(sleeps(wait));
    ++polls;
  };
  int left = tasks;
  TaskScope scope;
  for (int i = 0; i < tasks; ++i) scope.spawn(yield_often(loop, times, left));
  loop.run();
  EXPECT_EQ(left, 0);
  return polls;
}

TEST(LoopBase, BusyTasksLetTheLoopLookAtIoOftenButNotAlways) {
  // One task alone: once in kTurnsPerPoll turns. Many: once in kResumesPerPoll resumed ones.
  const int alone = polls_while_busy(1, 1600);
  EXPECT_GE(alone, 1600 / static_cast<int>(LoopBase::kTurnsPerPoll) - 1);
  EXPECT_LE(alone, 1600 / static_cast<int>(LoopBase::kTurnsPerPoll) + 2);
  const int crowd = polls_while_busy(640, 10);
  EXPECT_GE(crowd, 6400 / static_cast<int>(LoopBase::kResumesPerPoll) - 1);
  EXPECT_LE(crowd, 6400 / static_cast<int>(LoopBase::kResumesPerPoll) + 12);
}

/// The operation of a file, which ends when the test says so.
struct FileOperation {
  std::vector<std::coroutine_handle<>>& waiting;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { waiting.push_back(handle); }
  void await_resume() const {}
};

Task<void> use_file(std::vector<std::coroutine_handle<>>& waiting, int& resumed) {
  FileOperation operation{waiting};
  co_await operation;
  ++resumed;
}

// A disk ends whole batches at once. What the first ones' clients want next goes to the disk while
// the rest is worked off.
TEST(LoopBase, LooksAtIoBetweenFileOperationsThatEndedTogether) {
  auto loop = ScriptedLoop::make(Duration::zero());
  std::vector<std::coroutine_handle<>> waiting;
  int resumed = 0;
  TaskScope scope;
  for (int i = 0; i < 64; ++i) scope.spawn(use_file(waiting, resumed));
  std::vector<int> seen;  // resumed at each look
  loop.on_poll = [&](std::optional<Duration>) {
    seen.push_back(resumed);
    for (const std::coroutine_handle<> handle : std::exchange(waiting, {})) {
      loop.defer_finished(handle);
    }
    if (resumed == 64) loop.stop();
  };
  loop.run();
  EXPECT_EQ(resumed, 64);
  ASSERT_GT(seen.size(), 8u);
  const auto first = std::find_if(seen.begin(), seen.end(), [](int count) { return count != 0; });
  EXPECT_LE(*first, 2);
  for (std::size_t i = 1; i < seen.size(); ++i) EXPECT_LE(seen[i] - seen[i - 1], 8);
}

Task<void> read_once(std::vector<std::coroutine_handle<>>& readers, int& resumed, int& seen) {
  FileOperation arrival{readers};
  co_await arrival;
  seen = resumed;
}

// The request of a client that was answered from the batch goes to the disk, which may be idle,
// before the rest of the batch is answered.
TEST(LoopBase, WhatIsReadyGoesBeforeMoreFileOperationsThatEnded) {
  auto loop = ScriptedLoop::make(Duration::zero());
  std::vector<std::coroutine_handle<>> waiting;
  std::vector<std::coroutine_handle<>> readers;
  int resumed = 0;
  int seen_by_reader = -1;
  int at_arrival = -1;
  std::vector<int> looks_after;  // resumed at each look once the reader has had its turn
  TaskScope scope;
  for (int i = 0; i < 64; ++i) scope.spawn(use_file(waiting, resumed));
  scope.spawn(read_once(readers, resumed, seen_by_reader));
  loop.on_poll = [&](std::optional<Duration>) {
    for (const std::coroutine_handle<> handle : std::exchange(waiting, {})) {
      loop.defer_finished(handle);
    }
    if (seen_by_reader >= 0) looks_after.push_back(resumed);
    if (resumed >= 6 && !readers.empty()) {
      at_arrival = resumed;
      loop.defer(readers.back());
      readers.clear();
    }
    if (resumed == 64) loop.stop();
  };
  loop.run();
  EXPECT_EQ(resumed, 64);
  EXPECT_GE(at_arrival, 6);
  EXPECT_EQ(seen_by_reader, at_arrival);
  ASSERT_FALSE(looks_after.empty());
  EXPECT_EQ(looks_after.front(), at_arrival);  // what it queued went out
}

TEST(LoopBase, SpinningEndsWhenIoIsReady) {
  auto loop = ScriptedLoop::make(std::chrono::hours(1));
  int looks = 0;
  int polls_after = 0;
  loop.on_look = [&looks] { return ++looks == 100; };
  loop.on_poll = [&](std::optional<Duration> wait) {
    EXPECT_FALSE(sleeps(wait));
    if (looks < 100) return;
    ++polls_after;
    loop.stop();
  };
  loop.run();
  EXPECT_EQ(looks, 100);
  EXPECT_GE(polls_after, 1);
}

}  // namespace
}  // namespace blockmig

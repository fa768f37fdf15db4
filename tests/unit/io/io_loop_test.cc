// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/io_loop.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/event.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/io/loops.h"

namespace blockmig {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

class AnyLoop : public LoopTest {};
INSTANTIATE_TEST_SUITE_P(Loops, AnyLoop, all_loops(), loop_name);

Task<void> wait_for(Event& event) { co_await event.wait(); }

TEST_P(AnyLoop, PostsFromThreadsRunOnTheLoopInOrder) {
  constexpr int kThreads = 4;
  constexpr int kPosts = 5000;
  Event all_done(loop());
  std::vector<int> next(kThreads, 0);
  int total = 0;
  bool in_order = true;
  const auto loop_thread = std::this_thread::get_id();
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kPosts; ++i) {
        loop().post([&, t, i] {
          in_order = in_order && next[t]++ == i && std::this_thread::get_id() == loop_thread;
          if (++total == kThreads * kPosts) all_done.set();
        });
      }
    });
  }
  run(wait_for(all_done));
  for (auto& thread : threads) thread.join();
  EXPECT_TRUE(in_order);
  EXPECT_EQ(total, kThreads * kPosts);
}

// One post at a time, each only after the one before has run: a lost wake-up would hang the test.
void ping_pong(IoLoop& loop, int rounds) {
  std::atomic<int> seen = 0;
  std::thread thread([&] {
    for (int i = 0; i < rounds; ++i) {
      loop.post([&seen] { seen.fetch_add(1); });
      while (seen.load() <= i) std::this_thread::yield();
    }
    loop.stop();
  });
  loop.run();
  thread.join();
  EXPECT_EQ(seen.load(), rounds);
}

TEST_P(AnyLoop, NoWakeUpIsLost) { ping_pong(loop(), 5000); }

TEST_P(AnyLoop, NoWakeUpIsLostWithoutSpinning) {
  IoLoopOptions options;
  options.spin = Duration::zero();
  auto made = make_test_loop(GetParam(), options);
  ASSERT_TRUE(made);
  ping_pong(**made, 5000);
}

TEST_P(AnyLoop, StopFromAnotherThreadEndsASleepingLoop) {
  for (int i = 0; i < 50; ++i) {
    std::thread thread([this] { loop().stop(); });
    loop().run();  // that it returns is the test
    thread.join();
  }
}

TEST_P(AnyLoop, StopBeforeRunEndsTheNextRunOnly) {
  int called = 0;
  loop().stop();
  loop().post([&called] { ++called; });
  loop().run();
  EXPECT_EQ(called, 0);
  loop().post([this] { loop().stop(); });
  loop().run();
  EXPECT_EQ(called, 1);
}

Task<int> at_once() { co_return 5; }

TEST_P(AnyLoop, RunTaskLeavesNoStopBehind) {
  int called = 0;
  EXPECT_EQ(run(at_once()), 5);
  loop().post([&] {
    ++called;
    loop().stop();
  });
  loop().run();
  EXPECT_EQ(called, 1);
}

Task<void> stop_and_sleep(IoLoop& loop) {
  loop.stop();
  co_await sleep_for(loop, milliseconds(1));
}

TEST_P(AnyLoop, RunTaskIsNotEndedByAStopOfSomebodyElse) { run(stop_and_sleep(loop())); }

TEST_P(AnyLoop, WhatIsSuspendedWhenItStopsGoesOnLater) {
  Event event(loop());
  TaskScope scope;
  scope.spawn(wait_for(event));
  event.set();
  loop().stop();
  loop().run();
  EXPECT_EQ(scope.running(), 1u);
  loop().post([this] { loop().stop(); });
  loop().run();
  EXPECT_EQ(scope.running(), 0u);
}

Task<void> read_then_cancel(FdWatch& watch) {
  const bool alive = co_await watch.readable();
  EXPECT_FALSE(alive);
}

TEST_P(AnyLoop, CanRunOnAnotherThreadThanTheOneThatMadeIt) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC | O_NONBLOCK), 0);
  auto watch = loop().watch(pipe[0]);
  std::thread thread([&] {
    TaskScope scope;
    scope.spawn(read_then_cancel(*watch));
    settle();
    watch->cancel();
    settle();
  });
  thread.join();
  // The ring belongs to that thread, which is gone; what is left goes from here all the same.
  watch.reset();
  loop_.reset();
  ::close(pipe[0]);
  ::close(pipe[1]);
}

TEST_P(AnyLoop, ThousandsOfTimersFireInOrderAndNeverEarly) {
  constexpr int kTimers = 5000;
  Random random(11);
  const TimePoint start = loop().now();
  Event all_done(loop());
  std::vector<std::unique_ptr<Timer>> timers;
  std::vector<TimePoint> fired;
  bool early = false;
  for (int i = 0; i < kTimers; ++i) {
    const TimePoint when = start + microseconds(random.below(30'000));
    timers.push_back(std::make_unique<Timer>(loop(), [&, when] {
      early = early || loop().now() < when;
      fired.push_back(when);
      if (fired.size() == kTimers) all_done.set();
    }));
    timers.back()->arm(when);
  }
  run(wait_for(all_done));
  EXPECT_FALSE(early);
  EXPECT_TRUE(std::is_sorted(fired.begin(), fired.end()));
}

TEST_P(AnyLoop, ADisarmedTimerDoesNotFire) {
  int fired = 0;
  Timer dropped(loop(), [&fired] { ++fired; });
  dropped.arm(loop().now() + microseconds(100));
  dropped.disarm();
  Timer moved(loop(), [&fired] { fired += 10; });
  moved.arm(loop().now() + std::chrono::hours(1));
  moved.arm(loop().now() + microseconds(50));
  settle();
  EXPECT_EQ(fired, 10);
}

Task<int> offload_many(IoLoop& loop, int count) {
  const auto loop_thread = std::this_thread::get_id();
  int good = 0;
  for (int i = 0; i < count; ++i) {
    const bool elsewhere =
        co_await offload(loop, [loop_thread] { return std::this_thread::get_id() != loop_thread; });
    if (elsewhere && std::this_thread::get_id() == loop_thread) ++good;
  }
  co_return good;
}

TEST_P(AnyLoop, BlockingWorkRunsOffTheLoopAndCompletesOnIt) {
  EXPECT_EQ(run(offload_many(loop(), 300)), 300);
}

/// Passes when `expected` threads are in it at once.
class Rendezvous final {
 public:
  explicit Rendezvous(int expected) : expected_(expected) {}
  void arrive() {
    std::unique_lock lock(mutex_);
    if (++arrived_ == expected_) all_here_.notify_all();
    while (arrived_ < expected_) all_here_.wait(lock);
  }

 private:
  std::mutex mutex_;
  std::condition_variable all_here_;
  int expected_;
  int arrived_ = 0;
};

Task<void> meet(IoLoop& loop, Rendezvous& rendezvous) {
  co_await offload(loop, [&rendezvous] { rendezvous.arrive(); });
}

Task<void> meet_all(IoLoop& loop, Rendezvous& rendezvous, int count) {
  TaskScope scope;
  for (int i = 0; i < count; ++i) scope.spawn(meet(loop, rendezvous));
  co_await scope.join();
}

TEST_P(AnyLoop, BlockingWorkRunsOnAsManyThreadsAsAllowed) {
  const int threads = static_cast<int>(IoLoopOptions().blocking_threads);
  Rendezvous rendezvous(threads);
  run(meet_all(loop(), rendezvous, threads));
}

TEST_P(AnyLoop, DestroyingTheLoopWaitsForBlockingWork) {
  std::atomic<bool> finished = false;
  std::atomic<bool> started = false;
  bool completed = false;
  loop().run_blocking(
      [&] {
        started = true;
        std::this_thread::sleep_for(milliseconds(20));
        finished = true;
      },
      [&completed] { completed = true; });
  while (!started) std::this_thread::yield();
  loop_.reset();
  EXPECT_TRUE(finished);
  EXPECT_FALSE(completed);
}

/// Resumes itself through the loop for ever: a loop that serves it alone starves everybody else.
struct Yield {
  EventLoop& loop;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { loop.defer(handle); }
  void await_resume() const {}
};

Task<void> hog(EventLoop& loop, const bool& stop) {
  Yield yield{loop};
  while (!stop) co_await yield;
}

Task<void> wait_beside_hogs(IoLoop& loop) {
  bool stop = false;
  TaskScope scope;
  for (int i = 0; i < 3; ++i) scope.spawn(hog(loop, stop));
  co_await sleep_for(loop, milliseconds(1));
  co_await offload(loop, [] {});
  std::vector<std::byte> bytes(4);
  const int fd = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  const auto got = co_await loop.read_at(fd, bytes, 0);
  ::close(fd);
  EXPECT_TRUE(got.ok());
  stop = true;
  co_await scope.join();
}

TEST_P(AnyLoop, BusyTasksStarveNeitherTimersNorPostsNorIo) { run(wait_beside_hogs(loop())); }

/// In a child process in which io_uring_setup(2) fails as it does in default container profiles.
template <typename Check>
int exit_code_without_uring(Check check) {
  const pid_t child = ::fork();
  if (child == 0) {
    sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const sock_fprog filter{std::size(program), program};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
      ::_exit(77);
    }
    ::_exit(check());
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

int check_automatic_choice() {
  auto made = make_io_loop({});
  if (!made) return 1;
  if ((*made)->name() != "portable") return 2;
  run_task(**made, sleep_for(**made, microseconds(10)));
  return 0;
}

TEST(MakeIoLoop, FallsBackToThePortableLoopWhereUringIsRefused) {
  const int code = exit_code_without_uring(check_automatic_choice);
  if (code == 77) GTEST_SKIP() << "no seccomp here";
  EXPECT_EQ(code, 0);
}

int check_refusal() {
  IoLoopOptions options;
  options.kind = LoopKind::kUring;
  const auto made = make_io_loop(options);
  if (made) return 1;
  if (made.error().code() != ErrorCode::kNotSupported) return 2;
  return made.error().message().find("--loop portable") == std::string::npos ? 3 : 0;
}

TEST(MakeIoLoop, SaysWhatToDoWhereUringIsAskedForAndRefused) {
  const int code = exit_code_without_uring(check_refusal);
  if (code == 77) GTEST_SKIP() << "no seccomp here";
  EXPECT_EQ(code, 0);
}

TEST(MakeIoLoop, PrefersUring) {
  const auto best = make_uring_loop({});
  if (!best) GTEST_SKIP() << best.error().message();
  const auto made = make_io_loop({});
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->name(), "io_uring");
}

TEST(MakeIoLoop, PortableOnRequest) {
  IoLoopOptions options;
  options.kind = LoopKind::kPortable;
  const auto made = make_io_loop(options);
  ASSERT_TRUE(made);
  EXPECT_EQ((*made)->name(), "portable");
}

}  // namespace
}  // namespace blockmig

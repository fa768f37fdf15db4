// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/blocking_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <thread>

namespace blockmig {
namespace {

TEST(BlockingPool, RunsEverythingOnceOnAtMostSoManyThreads) {
  constexpr int kJobs = 2000;
  std::mutex mutex;
  std::condition_variable finished;
  std::set<std::thread::id> threads;
  int done = 0;
  BlockingPool pool(3);
  for (int i = 0; i < kJobs; ++i) {
    pool.submit([&] {
      const std::lock_guard lock(mutex);
      threads.insert(std::this_thread::get_id());
      if (++done == kJobs) finished.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  while (done < kJobs) finished.wait(lock);
  lock.unlock();
  pool.stop();
  EXPECT_EQ(done, kJobs);
  EXPECT_LE(threads.size(), 3u);
}

TEST(BlockingPool, AThreadThatHangsDoesNotHoldUpTheOthers) {
  std::mutex mutex;
  std::condition_variable changed;
  bool release = false;
  int done = 0;
  BlockingPool pool(2);
  pool.submit([&] {
    std::unique_lock lock(mutex);
    while (!release) changed.wait(lock);
  });
  for (int i = 0; i < 100; ++i) {
    pool.submit([&] {
      const std::lock_guard lock(mutex);
      ++done;
      changed.notify_all();
    });
  }
  std::unique_lock lock(mutex);
  while (done < 100) changed.wait(lock);
  release = true;
  changed.notify_all();
}

// A thread that was woken but has not taken its job yet must not be counted on for the next job
// too.
TEST(BlockingPool, TwoJobsAtOnceGetTwoThreadsThoughOneIsIdle) {
  for (int round = 0; round < 100; ++round) {
    std::atomic<bool> primed = false;
    std::atomic<int> inside = 0;
    BlockingPool pool(2);
    pool.submit([&primed] { primed = true; });
    while (!primed) std::this_thread::yield();
    std::this_thread::sleep_for(std::chrono::microseconds(200));  // idle by now, most of the times
    for (int i = 0; i < 2; ++i) {
      pool.submit([&inside] {
        ++inside;
        while (inside < 2) std::this_thread::yield();
      });
    }
    while (inside < 2) std::this_thread::yield();
  }
}

TEST(BlockingPool, StopFinishesWhatHasStartedAndDropsTheRest) {
  std::atomic<bool> started = false;
  std::atomic<bool> finished = false;
  std::atomic<int> later = 0;
  const auto dropped = std::make_shared<int>(0);
  BlockingPool pool(1);
  pool.submit([&] {
    started = true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    finished = true;
  });
  while (!started) std::this_thread::yield();
  pool.submit([&later, dropped] { ++later; });
  pool.stop();
  pool.stop();
  EXPECT_TRUE(finished);
  EXPECT_EQ(later, 0);
  EXPECT_EQ(dropped.use_count(), 1);
  pool.submit([&later, dropped] { ++later; });
  EXPECT_EQ(dropped.use_count(), 1);
}

}  // namespace
}  // namespace blockmig

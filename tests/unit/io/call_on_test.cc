// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/call_on.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/io_thread.h"
#include "blockmig/io/loop_barrier.h"
#include "blockmig/io/run_task.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class CallOnTest : public testing::TestWithParam<LoopKind> {
 protected:
  void SetUp() override {
    auto home = make_io_loop({.kind = GetParam()});
    if (!home.ok()) GTEST_SKIP() << home.error().message();
    home_ = *std::move(home);
    auto thread = IoThread::start({.kind = GetParam()}, "a thread with a very long name");
    ASSERT_TRUE(thread.ok());
    thread_ = *std::move(thread);
  }
  IoLoop& there() { return thread_->loop(); }

  std::unique_ptr<IoLoop> home_;
  TaskScope scope_;  ///< used on the other loop
  std::unique_ptr<IoThread> thread_;
};

Task<std::thread::id> where(EventLoop& loop) {
  co_await sleep_for(loop, milliseconds(1));
  co_return std::this_thread::get_id();
}

Task<std::vector<std::thread::id>> ask(EventLoop& here, EventLoop& there, TaskScope& scope) {
  std::vector<std::thread::id> ids;
  ids.push_back(std::this_thread::get_id());
  const std::thread::id other =
      co_await call_on(here, there, scope, [&there] { return where(there); });
  ids.push_back(other);
  ids.push_back(std::this_thread::get_id());
  co_await LoopBarrier(here, there);
  co_return ids;
}

TEST_P(CallOnTest, RunsThereAndResumesHere) {
  const auto ids = run_task(*home_, ask(*home_, there(), scope_));
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_NE(ids[1], ids[0]);
  EXPECT_EQ(ids[2], ids[0]);
}

Task<Result<std::string>> fail_or_answer(int number) {
  if (number % 2 == 1) co_return Error(ErrorCode::kInvalid, "odd");
  co_return std::to_string(number);
}

Task<int> many(EventLoop& here, EventLoop& there, TaskScope& scope) {
  int right = 0;
  for (int i = 0; i < 2000; ++i) {
    const Result<std::string> answer =
        co_await call_on(here, there, scope, [i] { return fail_or_answer(i); });
    if (i % 2 == 1 && !answer.ok()) ++right;
    if (i % 2 == 0 && answer.ok() && *answer == std::to_string(i)) ++right;
  }
  co_await LoopBarrier(here, there);
  co_return right;
}

TEST_P(CallOnTest, CarriesResultsAndErrors) {
  EXPECT_EQ(run_task(*home_, many(*home_, there(), scope_)), 2000);
}

Task<void> count_there(EventLoop& here, EventLoop& there, int& counted) {
  for (int i = 0; i < 100; ++i) there.post([&counted] { ++counted; });
  co_await LoopBarrier(here, there);
}

TEST_P(CallOnTest, ABarrierWaitsForWhatWasPostedBefore) {
  int counted = 0;
  run_task(*home_, count_there(*home_, there(), counted));
  EXPECT_EQ(counted, 100);
}

TEST_P(CallOnTest, StoppingAThreadTwiceIsHarmless) {
  thread_->stop();
  thread_->stop();  // that it returns is the test
}

INSTANTIATE_TEST_SUITE_P(Loops, CallOnTest, testing::Values(LoopKind::kUring, LoopKind::kPortable),
                         [](const auto& test) {
                           return test.param == LoopKind::kUring ? "Uring" : "Portable";
                         });

}  // namespace
}  // namespace blockmig

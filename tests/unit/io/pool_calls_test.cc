// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/pool_calls.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <memory>
#include <mutex>

#include "blockmig/io/offload.h"
#include "tests/unit/io/loops.h"

namespace blockmig {
namespace {

/// Calls that return only when they are let go.
class HungCalls final {
 public:
  ~HungCalls() { let_go(); }
  void submit(BlockingCalls& calls, unsigned count) {
    for (unsigned i = 0; i < count; ++i) {
      calls.run_blocking([shared = shared_] { shared->hang(); }, [] {});
    }
  }
  void let_go() {
    const std::lock_guard lock(shared_->mutex);
    shared_->released = true;
    shared_->changed.notify_all();
  }

 private:
  /// The threads may need longer than the test.
  struct Shared {
    std::mutex mutex;
    std::condition_variable changed;
    bool released = false;
    void hang() {
      std::unique_lock lock(mutex);
      while (!released) changed.wait(lock);
    }
  };
  std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
};

Task<int> ask(BlockingCalls& calls) {
  const int answer = co_await offload(calls, [] { return 42; });
  co_return answer;
}

class PoolCallsTest : public LoopTest {};

TEST_P(PoolCallsTest, PathsThatHangHoldUpNoCallsOnOpenFiles_I10) {
  HungCalls hung;
  hung.submit(loop(), 2 * IoLoopOptions().blocking_threads);
  EXPECT_EQ(run(ask(loop().file_calls())), 42);
  hung.let_go();
  EXPECT_EQ(run(ask(loop())), 42);
}

TEST_P(PoolCallsTest, FilesThatHangHoldUpNoLookUpOfPaths_I10) {
  HungCalls hung;
  hung.submit(loop().file_calls(), 2 * IoLoopOptions().blocking_threads);
  EXPECT_EQ(run(ask(loop())), 42);
  hung.let_go();
  EXPECT_EQ(run(ask(loop().file_calls())), 42);
}

TEST_P(PoolCallsTest, ThreadsOfItsOwnWaitForNobody_I10) {
  HungCalls hung;
  PoolCalls own(loop(), 1);
  hung.submit(loop(), 2 * IoLoopOptions().blocking_threads);
  hung.submit(loop().file_calls(), 2 * IoLoopOptions().blocking_threads);
  EXPECT_EQ(run(ask(own)), 42);
  hung.let_go();
}

TEST_P(PoolCallsTest, AFewCallsThatHangHoldUpNoOthersOfTheirKind) {
  HungCalls hung;
  hung.submit(loop(), 40);
  hung.submit(loop().file_calls(), 40);
  EXPECT_EQ(run(ask(loop())), 42);
  EXPECT_EQ(run(ask(loop().file_calls())), 42);
  hung.let_go();
}

INSTANTIATE_TEST_SUITE_P(Loops, PoolCallsTest, all_loops(), loop_name);

}  // namespace
}  // namespace blockmig

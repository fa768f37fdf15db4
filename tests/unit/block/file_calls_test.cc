// SPDX-License-Identifier: Apache-2.0
// FileDevice on a file that hangs: it must leave threads for the other files (I10).
#include <gtest/gtest.h>

#include <deque>
#include <utility>

#include "blockmig/block/file_device.h"
#include "blockmig/io/bounded_calls.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/forwarding_loop.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {
namespace {

/// Keeps what is asked of it until it is told to do it.
class HeldCalls final : public BlockingCalls {
 public:
  explicit HeldCalls(EventLoop& loop) : loop_(loop) {}
  void run_blocking(std::function<void()> work, std::function<void()> done) override {
    held_.emplace_back(std::move(work), std::move(done));
  }
  std::size_t held() const { return held_.size(); }
  void do_one() {
    auto [work, done] = std::move(held_.front());
    held_.pop_front();
    work();
    loop_.post(std::move(done));
  }

 private:
  EventLoop& loop_;
  std::deque<std::pair<std::function<void()>, std::function<void()>>> held_;
};

class HoldingLoop final : public ForwardingLoop {
 public:
  using ForwardingLoop::ForwardingLoop;
  BlockingCalls& file_calls() override { return calls; }
  HeldCalls calls{*this};
};

Task<void> ask_extents(BlockDevice& device, int& answered) {
  const auto found = co_await device.extents(0, device.info().size_bytes);
  EXPECT_TRUE(found.ok());
  ++answered;
}

Task<void> ask_often(HoldingLoop& loop, BlockDevice& device, int times) {
  TaskScope scope;
  int answered = 0;
  for (int i = 0; i < times; ++i) scope.spawn(ask_extents(device, answered));
  EXPECT_GE(loop.calls.held(), 1u);
  EXPECT_LE(loop.calls.held(), BoundedCalls::kMost);
  while (loop.calls.held() != 0) {
    loop.calls.do_one();
    co_await sleep_for(loop, std::chrono::milliseconds(1));
    EXPECT_LE(loop.calls.held(), BoundedCalls::kMost);
  }
  EXPECT_EQ(answered, times);
  co_await scope.join();
}

TEST(FileCalls, OneFileTakesOnlySomeOfTheThreads_I10) {
  const TemporaryFolder folder;
  const std::string path = folder / "a.img";
  write_file(path, filled(65536, 1));
  HoldingLoop loop(make_test_loop(LoopKind::kPortable));
  auto device = run_task(loop, open_file_device(loop, path, {}));
  ASSERT_TRUE(device.ok());
  run_task(loop, ask_often(loop, **device, 40));
  EXPECT_TRUE(run_task(loop, (*device)->close()).ok());
}

}  // namespace
}  // namespace blockmig

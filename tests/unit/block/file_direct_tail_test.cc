// SPDX-License-Identifier: Apache-2.0
// The end of a file that O_DIRECT does not reach goes through the page cache, which does not keep a
// reader of a sector from its writer (I2).
#include <gtest/gtest.h>

#include <optional>

#include "blockmig/block/file_device.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/forwarding_loop.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kTail = 8192;
constexpr std::uint64_t kSize = kTail + 1000;

/// A real loop whose writes the test holds.
class HoldingLoop final : public ForwardingLoop {
 public:
  using ForwardingLoop::ForwardingLoop;
  bool hold = false;
  Event begun{*this};
  Event go_on{*this};
  int reads = 0;

  Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset) override {
    ++reads;
    return ForwardingLoop::read_at(fd, into, offset);
  }
  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override {
    begun.set();
    if (hold) co_await go_on.wait();
    const auto count = co_await ForwardingLoop::write_at(fd, from, offset, durable);
    co_return count;
  }
};

Task<void> store_status(Task<Status> task, std::optional<Status>& into) {
  const Status done = co_await task;
  into = done;
}

Task<void> wait_for(Event& event) { co_await event.wait(); }

TEST(FileDirectTail, IsNotReadWhileItIsWritten_I2) {
  const TemporaryFolder folder;
  HoldingLoop loop(make_test_loop(LoopKind::kPortable));
  FileDeviceOptions options;
  options.cache = CacheMode::kDirect;
  options.create_size_bytes = kSize;
  auto opened = run_task(loop, open_file_device(loop, folder / "disk.img", options));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  BlockDevice& device = **opened;

  loop.hold = true;
  const Bytes content = filled(1000, 7);
  Bytes tail(1000), middle(4096);
  std::optional<Status> written, read_tail, read_middle;
  TaskScope scope;
  scope.spawn(store_status(device.write(kTail, content, {}), written));
  run_task(loop, wait_for(loop.begun));
  scope.spawn(store_status(device.read(kTail, tail), read_tail));
  EXPECT_EQ(loop.reads, 0) << "half of a sector could be new";
  scope.spawn(store_status(device.read(4096, middle), read_middle));
  EXPECT_EQ(loop.reads, 1) << "what O_DIRECT reads waits for nobody";
  loop.go_on.set();
  run_task(loop, join_all(scope));
  EXPECT_TRUE(written->ok() && read_tail->ok() && read_middle->ok());
  EXPECT_EQ(tail, content);
  EXPECT_TRUE(run_task(loop, device.close()).ok());
}

}  // namespace
}  // namespace blockmig

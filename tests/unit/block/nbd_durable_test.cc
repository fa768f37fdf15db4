// SPDX-License-Identifier: Apache-2.0
// What a durable write that failed at an NBD server says about those that were acknowledged.
#include <gtest/gtest.h>

#include <optional>

#include "blockmig/block/nbd_device.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

class NbdDurableTest : public testing::TestWithParam<LoopKind> {
 protected:
  void SetUp() override {
    loop_ = make_test_loop(GetParam());
    if (!loop_) GTEST_SKIP() << "this host refuses this kind of loop";
  }
  void TearDown() override {
    if (device_) {
      EXPECT_TRUE(run_task(*loop_, device_->close()).ok());
    }
  }
  /// A server that knows FUA; `pwrite`: what it does with durable writes.
  void serve(const std::string& pwrite) {
    server_ = NbdServerProcess::nbdkit(
        folder_,
        {"eval", "get_size=echo 1048576", "can_write=exit 0", "can_fua=echo native",
         "thread_model=echo parallel", "pread=head -c $3 /dev/zero", "can_flush=exit 0",
         "flush=exit 0", "pwrite=cat > /dev/null; case \"$5\" in *fua*) " + pwrite + ";; esac"});
    auto opened = run_task(*loop_, open_nbd_device(*loop_, server_->uri(), {}));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    sync_ = std::make_unique<SyncDevice>(*loop_, *device_);
  }

  TemporaryFolder folder_;
  std::unique_ptr<IoLoop> loop_;
  std::unique_ptr<NbdServerProcess> server_;
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
};

Task<void> store_status(Task<Status> task, std::optional<Status>& into) {
  const Status done = co_await task;
  into = done;
}

TEST_P(NbdDurableTest, AFailedDurableWriteIsSticky_I11) {
  serve("echo EIO >&2; exit 1");
  ASSERT_TRUE(sync_->write(0, filled(512, 1)).ok());
  const Status durable = sync_->write(4096, filled(512, 2), WriteFlags{true});
  ASSERT_FALSE(durable.ok());
  EXPECT_EQ(durable.error().code(), ErrorCode::kIo);
  EXPECT_FALSE(sync_->flush().ok()) << "the server's sync may have lost the first write";
  EXPECT_FALSE(sync_->write(8192, filled(512, 3), WriteFlags{true}).ok());
  ASSERT_TRUE(run_task(*loop_, device_->revive()).ok());
  EXPECT_TRUE(sync_->flush().ok());
}

// The server's kernel tells one of them, and it need not be the one whose answer is awaited.
TEST_P(NbdDurableTest, AFlushBesideAFailedDurableWriteIsNotAcknowledged_I11) {
  serve("sleep 0.5; echo EIO >&2; exit 1");
  std::optional<Status> write, flush;
  const std::vector<std::byte> content = filled(512, 2);
  TaskScope scope;
  scope.spawn(store_status(device_->write(0, content, WriteFlags{true}), write));
  scope.spawn(store_status(device_->flush(), flush));
  run_task(*loop_, join_all(scope));
  EXPECT_FALSE(write->ok());
  EXPECT_FALSE(flush->ok());
}

TEST_P(NbdDurableTest, ADurableWriteThatFindsNoRoomFailsAlone) {
  serve("echo ENOSPC >&2; exit 1;; *) echo ENOSPC >&2; exit 1");
  const Status full = sync_->write(0, filled(512, 2), WriteFlags{true});
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code(), ErrorCode::kNoSpace);
  EXPECT_TRUE(sync_->flush().ok());
}

std::string loop_name(const testing::TestParamInfo<LoopKind>& param) {
  return param.param == LoopKind::kUring ? "uring" : "portable";
}

INSTANTIATE_TEST_SUITE_P(Loops, NbdDurableTest,
                         testing::Values(LoopKind::kUring, LoopKind::kPortable), loop_name);

}  // namespace
}  // namespace blockmig

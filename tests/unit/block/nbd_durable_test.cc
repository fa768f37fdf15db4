// SPDX-License-Identifier: Apache-2.0
// What a durable write that failed at an NBD server says about those that were acknowledged.
#include <gtest/gtest.h>

#include <optional>

#include "blockmig/io/task_scope.h"
#include "tests/unit/block/nbd_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

class NbdDurableTest : public NbdStoreTest {
 protected:
  /// A server that knows FUA; `pwrite`: what it does with durable writes.
  void serve_durably(const std::string& pwrite) {
    serve({"eval", "get_size=echo 1048576", "can_write=exit 0", "can_fua=echo native",
           "thread_model=echo parallel", "pread=head -c $3 /dev/zero", "can_flush=exit 0",
           "flush=exit 0", "pwrite=cat > /dev/null; case \"$5\" in *fua*) " + pwrite + ";; esac"});
  }
};

TEST_P(NbdDurableTest, AFailedDurableWriteIsSticky_I11) {
  serve_durably("echo EIO >&2; exit 1");
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
  serve_durably("sleep 0.5; echo EIO >&2; exit 1");
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
  serve_durably("echo ENOSPC >&2; exit 1;; *) echo ENOSPC >&2; exit 1");
  const Status full = sync_->write(0, filled(512, 2), WriteFlags{true});
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code(), ErrorCode::kNoSpace);
  EXPECT_TRUE(sync_->flush().ok());
}

INSTANTIATE_TEST_SUITE_P(Loops, NbdDurableTest,
                         testing::Values(LoopKind::kUring, LoopKind::kPortable), loop_name);

}  // namespace
}  // namespace blockmig

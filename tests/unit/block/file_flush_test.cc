// SPDX-License-Identifier: Apache-2.0
// What FileDevice makes of a kernel that fails to sync (I11). The file is real; the loop between is
// not quite: it fails when it is told to.
#include <gtest/gtest.h>

#include <optional>

#include "blockmig/block/file_device.h"
#include "tests/unit/block/forwarding_loop.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

/// A real loop whose file I/O fails on demand.
class FailingLoop final : public ForwardingLoop {
 public:
  using ForwardingLoop::ForwardingLoop;

  std::optional<int> sync_errno;           ///< what the next sync answers, once
  std::optional<int> durable_write_errno;  ///< what the next durable write answers, once
  std::optional<int> write_errno;          ///< what every write answers
  std::optional<int> allocate_errno;       ///< what every allocate answers
  int plain_writes = 0;

  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override {
    if (durable && durable_write_errno)
      return fail_transfer(*std::exchange(durable_write_errno, {}));
    if (write_errno) return fail_transfer(*write_errno);
    plain_writes += durable ? 0 : 1;
    return ForwardingLoop::write_at(fd, from, offset, durable);
  }
  Task<Status> sync(int fd) override {
    if (sync_errno) return fail(*std::exchange(sync_errno, {}));
    return ForwardingLoop::sync(fd);
  }
  Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset,
                        std::uint64_t length) override {
    if (allocate_errno) return fail(*allocate_errno);
    return ForwardingLoop::allocate(fd, mode, offset, length);
  }

 private:
  static Task<Status> fail(int os_errno) { co_return Error::from_errno(os_errno, "told to"); }
  static Task<Result<std::size_t>> fail_transfer(int os_errno) {
    co_return Error::from_errno(os_errno, "told to");
  }
};

class FileFlush : public testing::TestWithParam<CacheMode> {
 protected:
  void SetUp() override {
    FileDeviceOptions options;
    options.create_size_bytes = 64 * kKiB;
    options.cache = GetParam();
    auto opened = run_task(loop_, open_file_device(loop_, path_, options));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    sync_ = std::make_unique<SyncDevice>(loop_, *device_);
  }
  void TearDown() override { EXPECT_TRUE(sync_->close().ok()); }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "disk.img";
  FailingLoop loop_{make_test_loop(LoopKind::kAuto)};
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
};

TEST_P(FileFlush, AFailedFlushIsSticky_I11) {
  ASSERT_TRUE(sync_->write(0, filled(512, 1)).ok());
  loop_.sync_errno = EIO;
  const Status first = sync_->flush();
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.error().code(), ErrorCode::kIo);
  EXPECT_NE(first.error().message().find(path_), std::string::npos);
  // The kernel would say "fine" now; the data is gone all the same.
  EXPECT_FALSE(sync_->flush().ok());
  EXPECT_FALSE(sync_->write(0, filled(512, 1), WriteFlags{true}).ok());
  ZeroFlags zero;
  zero.fua = true;
  EXPECT_FALSE(sync_->write_zeroes(0, 4096, zero).ok());
  EXPECT_FALSE(sync_->trim(0, 4096, WriteFlags{true}).ok());
}

TEST_P(FileFlush, AFailedDurableWriteFailsLaterFlushes_I11) {
  loop_.durable_write_errno = EIO;
  EXPECT_FALSE(sync_->write(0, filled(4096, 1), WriteFlags{true}).ok());
  EXPECT_FALSE(sync_->flush().ok());
}

TEST_P(FileFlush, AFullDiskFailsTheWriteOnly) {
  loop_.durable_write_errno = ENOSPC;
  loop_.write_errno = ENOSPC;
  const Status full = sync_->write(0, filled(4096, 1), WriteFlags{true});
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code(), ErrorCode::kNoSpace);
  loop_.write_errno.reset();
  EXPECT_TRUE(sync_->flush().ok());
  EXPECT_TRUE(sync_->write(0, filled(4096, 1), WriteFlags{true}).ok());
}

TEST_P(FileFlush, ASyncThatRanOutOfSpaceFailsLaterFlushes_I11) {
  // Delayed allocation: the write was taken, its write-back was not.
  loop_.durable_write_errno = ENOSPC;
  EXPECT_FALSE(sync_->write(0, filled(4096, 1), WriteFlags{true}).ok());
  EXPECT_FALSE(sync_->flush().ok());
}

TEST_P(FileFlush, FuaGoesThroughTheLoopAsADurableWrite_I1) {
  loop_.plain_writes = 0;
  ASSERT_TRUE(sync_->write(0, filled(4096, 1), WriteFlags{true}).ok());
  EXPECT_EQ(loop_.plain_writes, 0);
}

TEST_P(FileFlush, ZeroingFallsBackToWritingWhereTheFilesystemCannot) {
  Random random(1);
  const Bytes bytes = random_bytes(random, 64 * kKiB);
  ASSERT_TRUE(sync_->write(0, bytes).ok());
  loop_.allocate_errno = EOPNOTSUPP;
  ZeroFlags fast;
  fast.fast_only = true;
  const Status refused = sync_->write_zeroes(100, 50'000, fast);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kNotSupported);
  EXPECT_EQ(*sync_->read(0, bytes.size()), bytes) << "refused without effect";
  ASSERT_TRUE(sync_->write_zeroes(100, 50'000).ok());
  EXPECT_EQ(*sync_->read(100, 50'000), filled(50'000, 0));
  EXPECT_EQ(*sync_->read(0, 100), Bytes(bytes.begin(), bytes.begin() + 100));
  EXPECT_EQ(*sync_->read(50'100, 100), Bytes(bytes.begin() + 50'100, bytes.begin() + 50'200));
  EXPECT_TRUE(sync_->trim(0, 64 * kKiB).ok()) << "a hint that is not taken is no error";
}

TEST_P(FileFlush, AZeroingErrorIsNoReasonToFallBack) {
  loop_.allocate_errno = EIO;
  const Status failed = sync_->write_zeroes(0, 8192);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), ErrorCode::kIo);
  EXPECT_NE(failed.error().message().find(path_), std::string::npos);
  EXPECT_FALSE(sync_->trim(0, 8192).ok());
}

INSTANTIATE_TEST_SUITE_P(Modes, FileFlush,
                         testing::Values(CacheMode::kBuffered, CacheMode::kDirect, CacheMode::kMap),
                         cache_mode_name);

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// FileDevice::borrow_now(): bytes of the mapping that are lent until the loop's next turn (I2).
#include <gtest/gtest.h>

#include "blockmig/block/file_device.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kAt = 64 * kKiB;

Task<void> write_durably(BlockDevice& device, ConstBytes from, Status& done) {
  const WriteFlags flags{.fua = true};
  const Status written = co_await device.write(kAt, from, flags);
  done = written;
}

class FileBorrow : public testing::TestWithParam<CacheMode> {
 protected:
  void SetUp() override {
    write_file(path_, filled(kMiB, 7));
    auto opened =
        run_task(*loop_, open_file_device(*loop_, path_, {.cache = GetParam(), .inline_io = true}));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    sync_ = std::make_unique<SyncDevice>(*loop_, *device_);
    device_->share_between_threads(false);
    // Until a mapping, where there is one, serves the page.
    for (int i = 0; i < 80; ++i) {
      ASSERT_TRUE(sync_->write(kAt, filled(16384, 7)).ok());
      ASSERT_TRUE(sync_->read(kAt, 16384).ok());
    }
  }
  void TearDown() override { EXPECT_TRUE(sync_->close().ok()); }
  bool lends(std::uint64_t offset) { return !device_->borrow_now(offset, 512).empty(); }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "disk.img";
  std::unique_ptr<IoLoop> loop_ = make_test_loop(LoopKind::kAuto);
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
};

TEST_P(FileBorrow, OnlyAMappingLends) {
  EXPECT_EQ(lends(kAt), GetParam() == CacheMode::kMap);
  if (GetParam() != CacheMode::kMap) return;
  const ConstBytes bytes = device_->borrow_now(kAt + 512, 3000);
  EXPECT_EQ(Bytes(bytes.begin(), bytes.end()), filled(3000, 7));
}

TEST_P(FileBorrow, NothingIsLentThatOthersMightChange_I2) {
  device_->share_between_threads(true);
  EXPECT_FALSE(lends(kAt)) << "another thread might write meanwhile";
  device_->share_between_threads(false);
  if (!lends(kAt)) return;
  const Bytes from = filled(4096, 9);
  TaskScope scope;
  Status done = Error(ErrorCode::kIo);
  scope.spawn(write_durably(*device_, from, done));
  EXPECT_FALSE(lends(kAt)) << "a write of the range is under way";
  EXPECT_TRUE(lends(kAt + 8192));
  run_task(*loop_, join_all(scope));
  EXPECT_TRUE(done.ok());
  device_->abandon();
  EXPECT_FALSE(lends(kAt));
}

INSTANTIATE_TEST_SUITE_P(Modes, FileBorrow,
                         testing::Values(CacheMode::kBuffered, CacheMode::kDirect,
                                         CacheMode::kMap));

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// FileDevice on block devices of the kernel: loop devices, where the tests may make them (root).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "blockmig/block/file_device.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

/// A loop device over a file; the kernel removes it when its last user closes it.
class LoopDevice final {
 public:
  explicit LoopDevice(const std::string& backing, bool read_only = false) {
    const int access = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC;
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    if (!control) return;
    for (int attempt = 0; attempt < 20 && !fd_; ++attempt) {
      const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      if (number < 0) return;
      const std::string path = "/dev/loop" + std::to_string(number);
      UniqueFd fd(::open(path.c_str(), access));
      const UniqueFd file(::open(backing.c_str(), access));
      if (!fd || !file) return;
      // Somebody else may have taken the number meanwhile: then the next one.
      if (::ioctl(fd.get(), LOOP_SET_FD, file.get()) != 0) continue;
      loop_info64 facts = {};
      facts.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (::ioctl(fd.get(), LOOP_SET_STATUS64, &facts) != 0) {
        ::ioctl(fd.get(), LOOP_CLR_FD, 0);
        return;
      }
      fd_ = std::move(fd);
      path_ = path;
    }
  }
  bool ok() const { return static_cast<bool>(fd_); }
  const std::string& path() const { return path_; }

 private:
  UniqueFd fd_;
  std::string path_;
};

class KernelBlockDevice : public testing::TestWithParam<CacheMode> {
 protected:
  void SetUp() override {
    write_file(backing_, filled(kSize, 0));
    node_ = std::make_unique<LoopDevice>(backing_);
    if (!node_->ok()) GTEST_SKIP() << "no loop devices for this user";
    options_.cache = GetParam();
  }

  static constexpr std::uint64_t kSize = 4 * kMiB + 512;  // no multiple of 4 KiB
  TemporaryFolder folder_;
  const std::string backing_ = folder_ / "backing.img";
  std::unique_ptr<LoopDevice> node_;
  FileDeviceOptions options_;
  std::unique_ptr<IoLoop> loop_ = make_test_loop(LoopKind::kAuto);
};

TEST_P(KernelBlockDevice, ReadsWritesZeroesAndTrims) {
  auto opened = run_task(*loop_, open_file_device(*loop_, node_->path(), options_));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->info().size_bytes, kSize);
  EXPECT_FALSE((*opened)->info().zero_initialised);
  SyncDevice sync(*loop_, **opened);
  Random random(11);
  Bytes oracle = random_bytes(random, kSize);
  ASSERT_TRUE(sync.write(0, oracle).ok());
  for (int i = 0; i < 60; ++i) {
    const std::uint64_t offset = random.below(kSize);
    const std::uint64_t length = 1 + random.below(std::min<std::uint64_t>(kSize - offset, 60'000));
    const auto begin = oracle.begin() + static_cast<std::ptrdiff_t>(offset);
    if (random.chance(1, 2)) {
      ZeroFlags flags;
      flags.no_hole = random.chance(1, 2);
      ASSERT_TRUE(sync.write_zeroes(offset, length, flags).ok());
      std::fill_n(begin, length, std::byte{0});
    } else {
      const Bytes bytes = random_bytes(random, length);
      ASSERT_TRUE(sync.write(offset, bytes, WriteFlags{random.chance(1, 8)}).ok());
      std::copy(bytes.begin(), bytes.end(), begin);
    }
  }
  EXPECT_EQ(*sync.read(0, kSize), oracle);
  const auto extents = sync.extents(0, kSize);
  ASSERT_TRUE(extents.ok()) << extents.error().message();
  EXPECT_EQ(*extents, (std::vector<Extent>{{0, kSize, false, false}}));
  ASSERT_TRUE(sync.flush().ok());
  EXPECT_EQ(read_file(backing_), oracle);
  const std::uint64_t before = allocated_bytes(backing_);
  ASSERT_TRUE(sync.trim(100, 2 * kMiB).ok());
  EXPECT_LT(allocated_bytes(backing_), before);
  EXPECT_EQ(*sync.read(0, 100), Bytes(oracle.begin(), oracle.begin() + 100));
  EXPECT_TRUE(sync.close().ok());
}

TEST_P(KernelBlockDevice, AClaimedDeviceIsBusy_I3) {
  const UniqueFd claim(::open(node_->path().c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  ASSERT_TRUE(claim);
  auto opened = run_task(*loop_, open_file_device(*loop_, node_->path(), options_));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kBusy);
  EXPECT_NE(opened.error().message().find(node_->path()), std::string::npos);
}

TEST_P(KernelBlockDevice, AReadOnlyOneIsOpenedForReadingOnly) {
  const LoopDevice node(backing_, true);
  ASSERT_TRUE(node.ok());
  auto opened = run_task(*loop_, open_file_device(*loop_, node.path(), options_));
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code(), ErrorCode::kReadOnly);
  EXPECT_NE(opened.error().message().find("blockdev --setrw " + node.path()), std::string::npos)
      << opened.error().message();
  options_.read_only = true;
  auto to_read = run_task(*loop_, open_file_device(*loop_, node.path(), options_));
  EXPECT_TRUE(to_read.ok()) << to_read.error().message();
}

TEST_P(KernelBlockDevice, AsATargetItMayBeLargerButNotSmaller) {
  options_.create_size_bytes = kSize + 1;
  auto small = run_task(*loop_, open_file_device(*loop_, node_->path(), options_));
  ASSERT_FALSE(small.ok());
  EXPECT_EQ(small.error().code(), ErrorCode::kPrecondition);
  options_.create_size_bytes = kSize - 512;
  auto large = run_task(*loop_, open_file_device(*loop_, node_->path(), options_));
  ASSERT_TRUE(large.ok()) << large.error().message();
  EXPECT_EQ((*large)->info().size_bytes, kSize);
}

INSTANTIATE_TEST_SUITE_P(Modes, KernelBlockDevice,
                         testing::Values(CacheMode::kBuffered, CacheMode::kDirect, CacheMode::kMap),
                         cache_mode_name);

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// FileIo with threads of its own, and which files get them. That a filesystem hangs is for
// tests/fault/hung_filesystem_holds_up_no_other.py.
#include <fcntl.h>
#include <gtest/gtest.h>

#include "blockmig/block/file_io.h"
#include "blockmig/block/hung_filesystem.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/block/forwarding_loop.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

/// Counts what it is given to do.
class CountingLoop final : public ForwardingLoop {
 public:
  using ForwardingLoop::ForwardingLoop;
  Task<Result<std::size_t>> read_at(int fd, MutableBytes into, std::uint64_t offset) override {
    ++calls;
    return ForwardingLoop::read_at(fd, into, offset);
  }
  Task<Result<std::size_t>> write_at(int fd, ConstBytes from, std::uint64_t offset,
                                     bool durable) override {
    ++calls;
    return ForwardingLoop::write_at(fd, from, offset, durable);
  }
  Task<Status> sync(int fd) override {
    ++calls;
    return ForwardingLoop::sync(fd);
  }
  Task<Status> allocate(int fd, AllocateMode mode, std::uint64_t offset,
                        std::uint64_t length) override {
    ++calls;
    return ForwardingLoop::allocate(fd, mode, offset, length);
  }
  void run_blocking(std::function<void()> work, std::function<void()> done) override {
    ++calls;
    ForwardingLoop::run_blocking(std::move(work), std::move(done));
  }

  int calls = 0;
};

class FileIoOf : public testing::TestWithParam<bool> {
 protected:
  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "file";
  CountingLoop loop_{make_test_loop(LoopKind::kAuto)};
};

TEST_P(FileIoOf, ReadsWritesSyncsAndPunches) {
  write_file(path_, filled(64 * kKiB, 7));
  const UniqueFd fd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
  FileIo io(loop_, GetParam());
  const Bytes ones = filled(4096, 1);
  const auto written = run_task(loop_, io.write_at(fd.get(), ones, 8192, true));
  ASSERT_TRUE(written.ok());
  EXPECT_EQ(*written, ones.size());
  Bytes into(4096);
  const auto got = run_task(loop_, io.read_at(fd.get(), into, 8192));
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, into.size());
  EXPECT_EQ(into, ones);
  const auto at_end = run_task(loop_, io.read_at(fd.get(), into, 63 * kKiB));
  ASSERT_TRUE(at_end.ok());
  EXPECT_EQ(*at_end, kKiB) << "short at the end of the file";
  EXPECT_TRUE(run_task(loop_, io.sync(fd.get())).ok());
  const Status punched = run_task(loop_, io.allocate(fd.get(), AllocateMode::kPunchHole, 0, 4096));
  EXPECT_TRUE(punched.ok()) << punched.error().message();
  EXPECT_EQ(read_file(path_)[0], std::byte{0});
  EXPECT_EQ(loop_.calls, GetParam() ? 0 : 5) << "a file that may hang takes nothing of the loop's";
}

TEST_P(FileIoOf, ReportsErrors_I11) {
  FileIo io(loop_, GetParam());
  Bytes into(512);
  EXPECT_FALSE(run_task(loop_, io.read_at(-1, into, 0)).ok());
  EXPECT_FALSE(run_task(loop_, io.write_at(-1, into, 0, false)).ok());
  EXPECT_FALSE(run_task(loop_, io.sync(-1)).ok());
  EXPECT_FALSE(run_task(loop_, io.allocate(-1, AllocateMode::kPunchHole, 0, 512)).ok());
}

INSTANTIATE_TEST_SUITE_P(Threads, FileIoOf, testing::Bool(),
                         [](const auto& own) { return own.param ? "OwnThreads" : "TheLoops"; });

TEST(HungFilesystem, IsOneOfANetworkOrAProcess) {
  constexpr std::uint32_t kNfs = 0x6969;
  constexpr std::uint32_t kSmb2 = 0xFE534D42;
  constexpr std::uint32_t kFuse = 0x65735546;
  constexpr std::uint32_t kCeph = 0x00C36400;
  for (const std::uint32_t type : {kNfs, kSmb2, kFuse, kCeph}) {
    EXPECT_TRUE(filesystem_may_hang(type)) << std::hex << type;
  }
  constexpr std::uint32_t kExt4 = 0xEF53;
  constexpr std::uint32_t kXfs = 0x58465342;
  constexpr std::uint32_t kBtrfs = 0x9123683E;
  constexpr std::uint32_t kTmpfs = 0x01021994;
  constexpr std::uint32_t kZfs = 0x2FC12FC1;
  for (const std::uint32_t type : {kExt4, kXfs, kBtrfs, kTmpfs, kZfs}) {
    EXPECT_FALSE(filesystem_may_hang(type)) << std::hex << type;
  }
}

TEST(HungFilesystem, IsAskedOfTheFile) {
  const UniqueFd process(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
  EXPECT_FALSE(file_may_hang(process.get()));
  EXPECT_FALSE(file_may_hang(-1));
}

}  // namespace
}  // namespace blockmig

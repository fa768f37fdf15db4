// SPDX-License-Identifier: Apache-2.0
// What is special about files; what all devices promise is in device_conformance_test.cc.
#include "blockmig/block/file_device.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "blockmig/block/free_space.h"
#include "blockmig/block/image_lock.h"
#include "blockmig/block/open_file.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

using Opened = Result<std::unique_ptr<BlockDevice>>;

/// Once per cache mode.
class FileDeviceTest : public testing::TestWithParam<CacheMode> {
 protected:
  Opened open(const std::string& path, const FileDeviceOptions& options) {
    return run_task(*loop_, open_file_device(*loop_, path, options));
  }
  static FileDeviceOptions existing() {
    FileDeviceOptions options;
    options.cache = GetParam();
    return options;
  }
  static FileDeviceOptions create(std::uint64_t size) {
    FileDeviceOptions options = existing();
    options.create_size_bytes = size;
    return options;
  }
  /// The error of an attempt that must fail and name `path`.
  ErrorCode refusal(const std::string& path, const FileDeviceOptions& options) {
    Opened opened = open(path, options);
    EXPECT_FALSE(opened.ok());
    if (opened.ok()) return ErrorCode::kCancelled;
    EXPECT_NE(opened.error().message().find(path), std::string::npos) << opened.error().message();
    return opened.error().code();
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "disk.img";
  std::unique_ptr<IoLoop> loop_ = make_test_loop(LoopKind::kAuto);
};

TEST_P(FileDeviceTest, CreatesASparseFileOfTheSize) {
  Opened opened = open(path_, create(10 * kMiB + 3));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_EQ((*opened)->info().size_bytes, 10 * kMiB + 3);
  EXPECT_TRUE((*opened)->info().zero_initialised);
  EXPECT_EQ((*opened)->info().name, path_);
  EXPECT_EQ(allocated_bytes(path_), 0u);
  SyncDevice sync(*loop_, **opened);
  EXPECT_TRUE(sync.close().ok());
}

TEST_P(FileDeviceTest, AnExistingFileIsNotKnownToBeZero_Trap9) {
  write_file(path_, filled(5000, 1));
  Opened opened = open(path_, create(5000));
  ASSERT_TRUE(opened.ok());
  EXPECT_FALSE((*opened)->info().zero_initialised);
}

TEST_P(FileDeviceTest, RefusesWhatIsNoDisk) {
  EXPECT_EQ(refusal(folder_ / "missing.img", existing()), ErrorCode::kNotFound);
  EXPECT_EQ(refusal(folder_ / "no/such/folder.img", create(4096)), ErrorCode::kNotFound);
  EXPECT_EQ(refusal(folder_.path(), existing()), ErrorCode::kInvalid);
  FileDeviceOptions read_only = existing();
  read_only.read_only = true;
  EXPECT_EQ(refusal(folder_.path(), read_only), ErrorCode::kInvalid);
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_EQ(refusal(fifo, existing()), ErrorCode::kInvalid);
  EXPECT_EQ(refusal("/dev/null", existing()), ErrorCode::kInvalid);
}

TEST_P(FileDeviceTest, RefusesAnExistingFileOfAnotherSize) {
  write_file(path_, filled(5000, 1));
  EXPECT_EQ(refusal(path_, create(6000)), ErrorCode::kPrecondition);
  FileDeviceOptions exclusive = create(5000);
  exclusive.exclusive_create = true;
  EXPECT_EQ(refusal(path_, exclusive), ErrorCode::kPrecondition);
  EXPECT_EQ(read_file(path_), filled(5000, 1)) << "nothing changed";
}

TEST_P(FileDeviceTest, RefusesAFileThatIsInUse_I3) {
  Opened first = open(path_, create(8192));
  ASSERT_TRUE(first.ok());
  EXPECT_EQ(refusal(path_, existing()), ErrorCode::kBusy);
  SyncDevice sync(*loop_, **first);
  ASSERT_TRUE(sync.close().ok());
  EXPECT_TRUE(open(path_, existing()).ok());
}

TEST_P(FileDeviceTest, RefusesAFileThatQemuNbdServes) {
  write_file(path_, filled(kMiB, 0));
  const auto server = NbdServerProcess::qemu(folder_, path_);
  EXPECT_EQ(refusal(path_, existing()), ErrorCode::kBusy);
}

TEST_P(FileDeviceTest, AFailedCreationLeavesNoFileBehind) {
  // Larger than any file can be.
  EXPECT_EQ(refusal(path_, create(std::uint64_t{1} << 63)), ErrorCode::kInvalid);
  EXPECT_FALSE(exists(path_));
}

TEST_P(FileDeviceTest, ReadOnlyRefusesChanges) {
  write_file(path_, filled(5000, 1));
  FileDeviceOptions options = existing();
  options.read_only = true;
  Opened opened = open(path_, options);
  ASSERT_TRUE(opened.ok());
  SyncDevice sync(*loop_, **opened);
  for (const Status& refused :
       {sync.write(0, filled(10, 2)), sync.write_zeroes(0, 10), sync.trim(0, 4096)}) {
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code(), ErrorCode::kReadOnly);
  }
  EXPECT_TRUE(sync.flush().ok());
  EXPECT_EQ(*sync.read(0, 5000), filled(5000, 1));
}

TEST_P(FileDeviceTest, ZeroingAndTrimmingDeallocate) {
  Opened opened = open(path_, create(kMiB + 100));
  ASSERT_TRUE(opened.ok());
  if (!(*opened)->info().can_fast_zero) GTEST_SKIP() << "this filesystem cannot punch holes";
  SyncDevice sync(*loop_, **opened);
  ASSERT_TRUE(sync.write(0, filled(kMiB + 100, 7)).ok());
  ASSERT_TRUE(sync.flush().ok());
  ASSERT_GE(allocated_bytes(path_), kMiB);
  ASSERT_TRUE(sync.write_zeroes(0, 512 * kKiB).ok());
  EXPECT_LE(allocated_bytes(path_), 512 * kKiB + 8192);
  ASSERT_TRUE(sync.trim(512 * kKiB, 512 * kKiB + 100).ok());
  EXPECT_EQ(allocated_bytes(path_), 0u) << "the odd tail too";
  EXPECT_EQ(read_file(path_), filled(kMiB + 100, 0)) << "and the size stays";
}

TEST_P(FileDeviceTest, NoHoleKeepsAllocation) {
  Opened opened = open(path_, create(kMiB));
  ASSERT_TRUE(opened.ok());
  SyncDevice sync(*loop_, **opened);
  ASSERT_TRUE(sync.write(0, filled(kMiB, 7)).ok());
  ASSERT_TRUE(sync.flush().ok());
  ZeroFlags flags;
  flags.no_hole = true;
  ASSERT_TRUE(sync.write_zeroes(0, kMiB, flags).ok());
  ASSERT_TRUE(sync.flush().ok());
  EXPECT_GE(allocated_bytes(path_), kMiB);
  EXPECT_EQ(read_file(path_), filled(kMiB, 0));
}

TEST_P(FileDeviceTest, TrimLeavesPartsOfBlocksAlone) {
  Opened opened = open(path_, create(64 * kKiB));
  ASSERT_TRUE(opened.ok());
  SyncDevice sync(*loop_, **opened);
  ASSERT_TRUE(sync.write(0, filled(64 * kKiB, 7)).ok());
  ASSERT_TRUE(sync.trim(100, 8000).ok());
  EXPECT_EQ(*sync.read(100, 3996), filled(3996, 7));
  EXPECT_EQ(*sync.read(8192 - 92, 92), filled(92, 7));
}

TEST_P(FileDeviceTest, ExtentsShowHolesToTheBlock) {
  Opened opened = open(path_, create(kMiB + 777));
  ASSERT_TRUE(opened.ok());
  SyncDevice sync(*loop_, **opened);
  ASSERT_TRUE(sync.write(64 * kKiB, filled(128 * kKiB, 7)).ok());
  const std::vector<Extent> expected = {{1000, 64 * kKiB - 1000, true, true},
                                        {64 * kKiB, 128 * kKiB, false, false},
                                        {192 * kKiB, kMiB + 777 - 192 * kKiB, true, true}};
  const auto found = sync.extents(1000, kMiB + 777 - 1000);
  ASSERT_TRUE(found.ok());
  if (found->size() == 1) GTEST_SKIP() << "this filesystem does not report holes";
  EXPECT_EQ(*found, expected);
}

TEST_P(FileDeviceTest, AFileThatWasCutIsAnErrorNotZeros_I11) {
  for (const bool inline_io : {true, false}) {
    ::unlink(path_.c_str());
    FileDeviceOptions options = create(64 * kKiB);
    options.inline_io = inline_io;
    Opened opened = open(path_, options);
    ASSERT_TRUE(opened.ok());
    SyncDevice sync(*loop_, **opened);
    ASSERT_TRUE(sync.write(0, filled(64 * kKiB, 7)).ok());
    ASSERT_EQ(::truncate(path_.c_str(), 10'000), 0);
    const auto content = sync.read(8000, 8000);
    ASSERT_FALSE(content.ok());
    EXPECT_EQ(content.error().code(), ErrorCode::kIo);
    EXPECT_NE(content.error().message().find(path_), std::string::npos);
    const auto extents = sync.extents(0, 64 * kKiB);
    ASSERT_FALSE(extents.ok());
    EXPECT_EQ(extents.error().code(), ErrorCode::kIo);
    EXPECT_EQ(*sync.read(0, 8192), filled(8192, 7)) << "what is left can be read";
  }
}

TEST_P(FileDeviceTest, AbandonedItFailsEverything_I10) {
  Opened opened = open(path_, create(64 * kKiB));
  ASSERT_TRUE(opened.ok());
  SyncDevice sync(*loop_, **opened);
  (*opened)->abandon();
  for (const Status& failed : {sync.write(0, filled(10, 2)), sync.flush(), sync.trim(0, 4096),
                               sync.write_zeroes(0, 4096)}) {
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code(), ErrorCode::kDisconnected);
  }
  EXPECT_FALSE(sync.read(0, 10).ok());
  EXPECT_FALSE(sync.extents(0, 10).ok());
  EXPECT_TRUE(sync.close().ok());
}

TEST_P(FileDeviceTest, TakesUnalignedBuffersAndOddTails_Trap7) {
  FileDeviceOptions options = create(3 * 4096 + 777);
  Opened opened = open(path_, options);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  SyncDevice sync(*loop_, **opened);
  Random random(3);
  Bytes bytes = random_bytes(random, 3 * 4096 + 777 + 1);
  // Aligned on the disk, never in memory.
  ASSERT_TRUE(sync.write(0, ConstBytes(bytes).subspan(1)).ok());
  ASSERT_TRUE(sync.flush().ok());
  bytes.erase(bytes.begin());
  EXPECT_EQ(read_file(path_), bytes) << "and the file has not grown";
  EXPECT_EQ(*sync.read(0, bytes.size()), bytes);
}

Task<void> count_failure(Task<Status> task, int& failures) {
  const Status done = co_await task;
  if (!done) ++failures;
}

TEST_P(FileDeviceTest, ZeroingDoesNotMeetAReadModifyWriteHalfway_Trap8) {
  FileDeviceOptions options = create(64 * kKiB);
  Opened opened = open(path_, options);
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  SyncDevice sync(*loop_, **opened);
  const Bytes bytes = filled(100, 9);
  for (int round = 0; round < 50; ++round) {
    ASSERT_TRUE(sync.write(0, filled(64 * kKiB, 1)).ok());
    int failures = 0;
    TaskScope scope;
    scope.spawn(count_failure((*opened)->write(8192 + 100, bytes, {}), failures));
    scope.spawn(count_failure((*opened)->write_zeroes(4096, 16 * kKiB, {}), failures));
    run_task(*loop_, join_all(scope));
    ASSERT_EQ(failures, 0);
    // The 100 bytes that both wrote may be either; their neighbours were only zeroed.
    ASSERT_EQ(*sync.read(4096, 4096 + 100), filled(4096 + 100, 0)) << "round " << round;
    ASSERT_EQ(*sync.read(8192 + 200, 4000), filled(4000, 0)) << "round " << round;
  }
}

TEST_P(FileDeviceTest, FreeSpaceOfAFileThatDoesNotExistYet) {
  const auto here = free_space_bytes(folder_.path());
  const auto file = free_space_bytes(path_);
  ASSERT_TRUE(here.ok() && file.ok());
  EXPECT_GT(*file, 0u);
  const auto nowhere = free_space_bytes(folder_ / "no/such/folder.img");
  ASSERT_FALSE(nowhere.ok());
  EXPECT_EQ(nowhere.error().code(), ErrorCode::kNotFound);
}

INSTANTIATE_TEST_SUITE_P(Modes, FileDeviceTest,
                         testing::Values(CacheMode::kBuffered, CacheMode::kDirect, CacheMode::kMap),
                         cache_mode_name);

bool leads_to(const std::string& path, int fd) {
  struct stat named = {};
  struct stat held = {};
  return ::stat(path.c_str(), &named) == 0 && ::fstat(fd, &held) == 0 &&
         named.st_ino == held.st_ino && named.st_dev == held.st_dev;
}

/// Makes the file and removes it while it has its lock, until told to stop.
void make_and_remove(const std::string& path, const std::atomic<bool>& stop) {
  while (!stop) {
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    const bool locked = fd && lock_image(fd.get(), path, false).ok();
    if (locked && leads_to(path, fd.get())) ::unlink(path.c_str());
  }
}

TEST(OpenFile, OneThatItsOwnerRemovesBeforeHeLetsItGoIsNotOpened_I1) {
  constexpr int kAttempts = 50000;
  const TemporaryFolder folder;
  const std::string path = folder / "disk.img";
  std::atomic<bool> stop = false;
  std::thread owner([&] { make_and_remove(path, stop); });
  int nameless = 0;
  for (int i = 0; i < kAttempts; ++i) {
    const auto opened = open_file(path, {});
    if (opened.ok() && !leads_to(path, opened->fd.get())) ++nameless;
  }
  stop = true;
  owner.join();
  EXPECT_EQ(nameless, 0);
}

}  // namespace
}  // namespace blockmig

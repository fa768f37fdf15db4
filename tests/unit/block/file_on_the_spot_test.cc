// SPDX-License-Identifier: Apache-2.0
// FileDevice::read_now() and write_now(): what is served on the spot, by other threads than the
// loop's, beside what the loop does (I2).
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "blockmig/block/file_device.h"
#include "blockmig/block/inline_policy.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/block/store_fixture.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kSize = 2 * kMiB + 777;

class FileOnTheSpot : public testing::TestWithParam<CacheMode> {
 protected:
  void SetUp() override { open(true); }
  void TearDown() override { close(); }
  void open(bool inline_io, bool read_only = false) {
    write_file(path_, filled(kSize, 7));
    FileDeviceOptions options;
    options.cache = GetParam();
    options.inline_io = inline_io;
    options.read_only = read_only;
    auto opened = run_task(*loop_, open_file_device(*loop_, path_, options));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    device_ = std::move(*opened);
    sync_ = std::make_unique<SyncDevice>(*loop_, *device_);
  }
  void close() {
    EXPECT_TRUE(sync_->close().ok());
    device_.reset();
  }
  bool read_now(std::uint64_t offset, std::size_t length) {
    Bytes into(length);
    return device_->read_now(offset, into);
  }
  bool write_now(std::uint64_t offset, ConstBytes from) { return device_->write_now(offset, from); }
  /// Until a mapping, where there is one, serves the page.
  void warm(std::uint64_t offset) {
    for (int i = 0; i < 80; ++i) {
      ASSERT_TRUE(sync_->write(offset, filled(4096, 7)).ok());
      ASSERT_TRUE(sync_->read(offset, 4096).ok());
    }
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "disk.img";
  std::unique_ptr<IoLoop> loop_ = make_test_loop(LoopKind::kAuto);
  std::unique_ptr<BlockDevice> device_;
  std::unique_ptr<SyncDevice> sync_;
};

TEST_P(FileOnTheSpot, ServesWhatIsInMemory) {
  if (GetParam() == CacheMode::kDirect) {
    EXPECT_FALSE(read_now(0, 512)) << "a disk is waited for";
    EXPECT_FALSE(write_now(0, filled(512, 1)));
    return;
  }
  for (int i = 0; i < 100; ++i) {
    Bytes into(9000);
    ASSERT_TRUE(device_->read_now(kSize - 9000, into));
    EXPECT_EQ(into, filled(9000, 7 + i));
    ASSERT_TRUE(write_now(kSize - 9000, filled(9000, 8 + i)));
  }
  EXPECT_EQ(*sync_->read(kSize - 9000, 9000), filled(9000, 107));
  ASSERT_TRUE(sync_->flush().ok());
  const Bytes file = read_file(path_);
  ASSERT_EQ(file.size(), kSize);
  EXPECT_EQ(file.back(), std::byte{107});
}

TEST_P(FileOnTheSpot, AMappingLendsItsBytes) {
  const ByteRange range{64 * kKiB + 512, 3000};
  Bytes seen;
  const auto look = [&](ConstBytes bytes) {
    seen.assign(bytes.begin(), bytes.end());
    return true;
  };
  const auto put = [&](MutableBytes bytes) {
    std::fill_n(bytes.begin(), 1024, std::byte{5});
    return std::size_t{1024};
  };
  EXPECT_FALSE(device_->lend_now(range.offset, range.length, look)) << "nothing is known yet";
  EXPECT_FALSE(device_->fill_now(range.offset, range.length, put));
  warm(64 * kKiB);
  const bool mapped = GetParam() == CacheMode::kMap;
  EXPECT_EQ(device_->lend_now(range.offset, range.length, look), mapped);
  EXPECT_EQ(device_->fill_now(range.offset, range.length, put), mapped);
  if (!mapped) return;
  EXPECT_EQ(seen, filled(3000, 7));
  EXPECT_EQ(*sync_->read(range.offset, 1024), filled(1024, 5));
  EXPECT_EQ(*sync_->read(range.offset + 1024, 1000), filled(1000, 7)) << "only what was put there";
  EXPECT_FALSE(device_->lend_now(range.offset, 512, [](ConstBytes) { return false; }));
  // Nobody else meets it while it lasts (I2).
  device_->lend_now(0, 512, [&](ConstBytes) {
    EXPECT_FALSE(write_now(0, filled(512, 1)));
    EXPECT_TRUE(read_now(0, 512));
    return true;
  });
  device_->fill_now(64 * kKiB, 512, [&](MutableBytes) {
    EXPECT_FALSE(read_now(64 * kKiB, 512));
    return std::size_t{0};
  });
  ASSERT_TRUE(sync_->flush().ok());
  EXPECT_FALSE(device_->fill_now(range.offset, range.length, put)) << "clean pages would fault";
  device_->abandon();
  EXPECT_FALSE(device_->lend_now(range.offset, range.length, look));
}

TEST_P(FileOnTheSpot, WhatIsTooLargeIsForTheLoop) {
  EXPECT_FALSE(read_now(0, InlinePolicy::kMaxInlineBytes + 1));
  EXPECT_FALSE(write_now(0, filled(InlinePolicy::kMaxInlineBytes + 1, 1)));
}

TEST_P(FileOnTheSpot, NothingIsServedWhereWaitingIsForbidden_I10) {
  warm(0);
  device_->prefer_latency(false);
  EXPECT_FALSE(read_now(0, 512));
  EXPECT_FALSE(write_now(0, filled(512, 1)));
  device_->prefer_latency(true);
  EXPECT_EQ(read_now(0, 512), GetParam() != CacheMode::kDirect);
  device_->abandon();
  EXPECT_FALSE(read_now(0, 512));
  EXPECT_FALSE(write_now(0, filled(512, 1)));
  close();
  open(false);
  EXPECT_FALSE(read_now(0, 512));
  EXPECT_FALSE(write_now(0, filled(512, 1)));
}

TEST_P(FileOnTheSpot, AReadOnlyDiskIsNotWritten) {
  close();
  open(true, true);
  EXPECT_FALSE(write_now(0, filled(512, 1)));
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(*sync_->read(4096, 4096), filled(4096, 7));
  }
}

TEST_P(FileOnTheSpot, AFileCutUnderItsMappingIsAnErrorOfTheRequestOnly_I11) {
  warm(0);
  warm(kMiB);
  warm(kMiB + 64 * kKiB);
  ASSERT_EQ(::truncate(path_.c_str(), kMiB), 0);
  EXPECT_FALSE(read_now(kMiB, 4096));
  const auto gone = sync_->read(kMiB, 4096);
  ASSERT_FALSE(gone.ok());
  EXPECT_EQ(gone.error().code(), ErrorCode::kIo);
  EXPECT_NE(gone.error().message().find(path_), std::string::npos);
  EXPECT_EQ(*sync_->read(0, 4096), filled(4096, 7)) << "the process and the rest live on";
  // Writing there makes the file longer again, in every mode.
  ASSERT_TRUE(sync_->write(kMiB + 64 * kKiB, filled(4096, 3)).ok());
  EXPECT_EQ(*sync_->read(kMiB + 64 * kKiB, 4096), filled(4096, 3));
}

TEST_P(FileOnTheSpot, ZeroesAndTrimsAreSeenAtOnce) {
  warm(0);
  ASSERT_TRUE(sync_->write_zeroes(0, 64 * kKiB).ok());
  EXPECT_EQ(*sync_->read(0, 4096), filled(4096, 0));
  ASSERT_TRUE(sync_->write(0, filled(4096, 5)).ok());
  EXPECT_EQ(*sync_->read(0, 4096), filled(4096, 5));
  EXPECT_EQ(*sync_->read(4096, 4096), filled(4096, 0));
  warm(0);
  ASSERT_TRUE(sync_->trim(0, kSize).ok());
  const auto first = sync_->read(0, 4096);
  EXPECT_EQ(*first, *sync_->read(0, 4096));
}

/// One sector's worth of one value, or torn.
std::optional<int> value_of(ConstBytes sector) {
  for (const std::byte byte : sector) {
    if (byte != sector[0]) return std::nullopt;
  }
  return static_cast<int>(sector[0]);
}

/// Threads hammer a few sectors on the spot while the loop reads, writes and zeroes them
/// asynchronously. Every read must see sectors of one value.
struct Hammer {
  static constexpr std::uint64_t kSectors = 8;
  static constexpr std::uint64_t kSector = 512;

  BlockDevice& device;
  std::atomic<bool> stop{false};
  std::atomic<int> torn{0};
  std::atomic<int> served{0};

  void check(ConstBytes content) {
    for (std::uint64_t i = 0; i < kSectors; ++i) {
      if (!value_of(content.subspan(i * kSector, kSector))) ++torn;
    }
  }
  void run(int id) {
    Bytes into(kSectors * kSector);
    for (int round = 0; !stop.load(std::memory_order_relaxed); ++round) {
      if (round % 3 == id % 3) {
        const Bytes from = filled(kSectors * kSector, 1 + (round * 4 + id) % 250);
        served += device.write_now(0, from) ? 1 : 0;
      } else if (device.read_now(0, into)) {
        ++served;
        check(into);
      }
    }
  }
};

TEST_P(FileOnTheSpot, NoSectorIsEverSeenHalfWritten_I2) {
  if (GetParam() == CacheMode::kDirect) GTEST_SKIP() << "nothing is served on the spot";
  warm(0);
  Hammer hammer{*device_};
  std::vector<std::thread> threads;
  for (int id = 0; id < 3; ++id) threads.emplace_back([&, id] { hammer.run(id); });
  constexpr std::size_t kBytes = Hammer::kSectors * Hammer::kSector;
  // Until the threads, too, have had their share of the processors.
  for (int round = 0; round < 300 || hammer.served < 300; ++round) {
    device_->prefer_latency(round % 4 < 2);  // on the spot, too; threads stop and start
    EXPECT_TRUE(sync_->write(0, filled(kBytes, 1 + round % 250)).ok());
    const auto content = sync_->read(0, kBytes);
    EXPECT_TRUE(content.ok());
    if (content.ok()) hammer.check(*content);
    if (round % 16 == 5) {
      EXPECT_TRUE(sync_->write(0, filled(kBytes, 1), WriteFlags{true}).ok());
    }
    if (round % 16 == 9) {
      EXPECT_TRUE(sync_->write_zeroes(0, kBytes).ok());
    }
    if (round % 16 == 13) {
      EXPECT_TRUE(sync_->trim(0, 64 * kKiB).ok());
    }
    // Asynchronous reads and writes while the threads go on.
    device_->prefer_latency(true);
    const std::size_t large = InlinePolicy::kMaxInlineBytes + 512;
    EXPECT_TRUE(sync_->write(0, filled(large, 2 + round % 250)).ok());
  }
  hammer.stop = true;
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(hammer.torn, 0);
}

/// A page of memory that whoever touches it waits for, until it is given: holds a call in its
/// middle.
class SlowPage {
 public:
  SlowPage() {
    fd_ = UniqueFd(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC)));
    uffdio_api api = {};
    api.api = UFFD_API;
    if (!fd_ || ::ioctl(fd_.get(), UFFDIO_API, &api) != 0) return;
    void* const at =
        ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED) return;
    page_ = static_cast<std::byte*>(at);
    uffdio_register range = {};
    range.range = {reinterpret_cast<std::uint64_t>(page_), kBytes};
    range.mode = UFFDIO_REGISTER_MODE_MISSING;
    ok_ = ::ioctl(fd_.get(), UFFDIO_REGISTER, &range) == 0;
  }
  ~SlowPage() {
    if (page_ != nullptr) ::munmap(page_, kBytes);
  }
  SlowPage(const SlowPage&) = delete;
  SlowPage& operator=(const SlowPage&) = delete;
  bool ok() const { return ok_; }
  MutableBytes bytes() { return MutableBytes(page_, kBytes); }
  /// Until somebody is waiting.
  void await_touch() {
    uffd_msg message = {};
    EXPECT_EQ(::read(fd_.get(), &message, sizeof message), ssize_t{sizeof message});
  }
  void give() {
    uffdio_zeropage zero = {};
    zero.range = {reinterpret_cast<std::uint64_t>(page_), kBytes};
    EXPECT_EQ(::ioctl(fd_.get(), UFFDIO_ZEROPAGE, &zero), 0);
  }
  static constexpr std::size_t kBytes = 4096;

 private:
  UniqueFd fd_;
  std::byte* page_ = nullptr;
  bool ok_ = false;
};

Task<void> note_end(Task<Status> task, bool& ended) {
  const Status done = co_await task;
  EXPECT_TRUE(done.ok());
  ended = true;
}

TEST_P(FileOnTheSpot, WhatChangesARangeWaitsForTheCallsInIt_I2) {
  if (GetParam() == CacheMode::kDirect) GTEST_SKIP() << "nothing is served on the spot";
  for (int what = 0; what < 4; ++what) {
    warm(0);
    SlowPage page;
    if (!page.ok()) GTEST_SKIP() << "this user may not hold up page faults of the kernel";
    bool served = false;
    std::thread reader([&] { served = device_->read_now(0, page.bytes()); });
    page.await_touch();
    const Bytes bytes = filled(4096, 9);
    bool ended = false;
    TaskScope scope;
    if (what == 0) scope.spawn(note_end(device_->write(0, bytes, {}), ended));
    if (what == 1) scope.spawn(note_end(device_->write(0, bytes, WriteFlags{true}), ended));
    if (what == 2) scope.spawn(note_end(device_->write_zeroes(0, 8192, {}), ended));
    if (what == 3) scope.spawn(note_end(device_->trim(0, 8192, {}), ended));
    run_task(*loop_, sleep_for(*loop_, std::chrono::milliseconds(20)));
    EXPECT_FALSE(ended) << "operation " << what;
    // Nor is anybody let in before it.
    EXPECT_FALSE(read_now(0, 512)) << "operation " << what;
    page.give();
    reader.join();
    run_task(*loop_, join_all(scope));
    EXPECT_TRUE(ended && served);
    const MutableBytes read = page.bytes();
    EXPECT_EQ(Bytes(read.begin(), read.end()), filled(4096, 7)) << "all from before";
  }
}

/// A filesystem of its own in memory, seen by nobody else; gone with its last descriptor.
UniqueFd small_filesystem(const std::string& folder, const char* options) {
  UniqueFd root;
  std::thread([&] {
    // Mounts of this thread only.
    if (::unshare(CLONE_NEWNS | CLONE_FS) != 0) return;
    if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return;
    if (::mount("none", folder.c_str(), "tmpfs", 0, options) != 0) return;
    root = UniqueFd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }).join();
  return root;
}

TEST_P(FileOnTheSpot, AFullDiskIsAnErrorOfTheRequestOnly_I11) {
  const UniqueFd root = small_filesystem(folder_.path(), "size=1m");
  if (!root) GTEST_SKIP() << "this user cannot mount";
  const std::string path = "/proc/self/fd/" + std::to_string(root.get()) + "/disk.img";
  FileDeviceOptions options;
  options.cache = GetParam();
  options.create_size_bytes = 4 * kMiB;
  auto opened = run_task(*loop_, open_file_device(*loop_, path, options));
  if (!opened.ok() && GetParam() == CacheMode::kDirect) GTEST_SKIP() << "no direct I/O in memory";
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  SyncDevice sync(*loop_, **opened);
  int full = 0;
  for (int round = 0; round < 80; ++round) {
    for (std::uint64_t offset = 0; offset < 4 * kMiB; offset += 64 * kKiB) {
      const Status done = sync.write(offset, filled(64 * kKiB, 3));
      if (done.ok()) continue;
      ASSERT_EQ(done.error().code(), ErrorCode::kNoSpace) << done.error().message();
      ++full;
    }
    // Reading a hole through a mapping may take room, too.
    const auto hole = sync.read(4 * kMiB - 4096, 4096);
    ASSERT_TRUE(hole.ok()) << hole.error().message();
    ASSERT_EQ(*hole, filled(4096, 0));
    ASSERT_EQ(*sync.read(0, 4096), filled(4096, 3));
  }
  EXPECT_GT(full, 0);
  EXPECT_TRUE(sync.close().ok());
}

INSTANTIATE_TEST_SUITE_P(Modes, FileOnTheSpot,
                         testing::Values(CacheMode::kBuffered, CacheMode::kDirect, CacheMode::kMap),
                         cache_mode_name);

}  // namespace
}  // namespace blockmig

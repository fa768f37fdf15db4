// SPDX-License-Identifier: Apache-2.0
// MappedPages and, under it, FileMapping, on a real file.
#include "blockmig/block/mapped_pages.h"

#include <fcntl.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <linux/falloc.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "blockmig/block/file_extents.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kUnit = 256 * kKiB;
constexpr std::uint64_t kGroup = 8 * kUnit;
constexpr std::uint64_t kSize = kGroup + kUnit + 5000;  // an odd tail in a unit of its own
constexpr ByteRange kPage{8192, 4096};

class MappedPagesTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::sysconf(_SC_PAGESIZE) != 4096) GTEST_SKIP() << "numbers here are for pages of 4 KiB";
    write_file(path_, filled(kSize, 7));
    make();
  }
  void make(std::size_t max_units = MappedPages::kMaxUnits) {
    fd_ = UniqueFd(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    auto mapping = FileMapping::create(fd_.get(), kSize, false, path_);
    ASSERT_TRUE(mapping.ok()) << mapping.error().message();
    auto pages = MappedPages::create(*std::move(mapping), fd_.get(), true, max_units);
    ASSERT_TRUE(pages.ok());
    pages_ = *std::move(pages);
    ASSERT_EQ(pages_->unit_bytes(), kUnit);
  }
  bool read(ByteRange range) {
    Bytes into(range.length);
    const bool done = pages_->read(range.offset, into, now_);
    if (done) {
      EXPECT_EQ(into, content(range));
    }
    return done;
  }
  bool write(ByteRange range, int value) {
    return pages_->write(range.offset, filled(range.length, value), now_);
  }
  Bytes content(ByteRange range) {
    Bytes bytes(range.length);
    EXPECT_EQ(::pread(fd_.get(), bytes.data(), range.length, static_cast<off_t>(range.offset)),
              static_cast<ssize_t>(range.length));
    return bytes;
  }
  /// As the device does: through the page cache, and say so.
  void touch_reading(ByteRange range) {
    for (std::uint32_t i = 0; i < MappedPages::kReadTouches; ++i) pages_->was_read(range, now_);
  }
  void touch_writing(ByteRange range, int value = 8) {
    const Bytes bytes = filled(range.length, value);
    for (std::uint32_t i = 0; i < MappedPages::kWriteTouches; ++i) {
      ASSERT_EQ(::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(range.offset)),
                static_cast<ssize_t>(range.length));
      pages_->was_written(range, now_);
    }
  }
  void punch(ByteRange range) {
    ASSERT_EQ(::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                          static_cast<off_t>(range.offset), static_cast<off_t>(range.length)),
              0);
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_ / "disk.img";
  UniqueFd fd_;
  std::unique_ptr<MappedPages> pages_;
  std::uint32_t now_ = 1000;
};

TEST_F(MappedPagesTest, AUnitIsReadableOnceItWasReadOften) {
  EXPECT_FALSE(read(kPage));
  for (std::uint32_t i = 1; i < MappedPages::kReadTouches; ++i) pages_->was_read(kPage, now_);
  EXPECT_FALSE(read(kPage));
  EXPECT_EQ(pages_->attached_units(), 0u);
  pages_->was_read(kPage, now_);
  EXPECT_TRUE(read(kPage));
  EXPECT_TRUE(read({0, kUnit})) << "all of it, since all is in memory";
  EXPECT_FALSE(read({kUnit - 512, 1024})) << "not its neighbour";
  EXPECT_FALSE(write(kPage, 1)) << "and not for writing";
  EXPECT_EQ(pages_->attached_units(), 1u);
}

TEST_F(MappedPagesTest, TheOddTailIsServedAndNothingBehindIt_Trap7) {
  const ByteRange tail{kSize - 700, 700};
  touch_reading(tail);
  EXPECT_TRUE(read(tail));
  touch_writing(tail);
  EXPECT_TRUE(write(tail, 9));
  pages_.reset();
  ASSERT_EQ(::fdatasync(fd_.get()), 0);
  struct stat facts = {};
  ASSERT_EQ(::fstat(fd_.get(), &facts), 0);
  EXPECT_EQ(static_cast<std::uint64_t>(facts.st_size), kSize);
  ASSERT_EQ(::ftruncate(fd_.get(), kSize + 3000), 0);
  EXPECT_EQ(content({kSize, 3000}), filled(3000, 0));
  EXPECT_EQ(content(tail), filled(700, 9));
}

TEST_F(MappedPagesTest, WhatTheKernelTookBackIsNoticedInTheNextGeneration) {
  touch_reading(kPage);
  ASSERT_TRUE(read(kPage));
  punch({0, kSize});  // the surest way to have pages gone
  ++now_;
  EXPECT_FALSE(read(kPage));
}

TEST_F(MappedPagesTest, AGroupIsWritableOnceItWasWrittenOften) {
  EXPECT_FALSE(write(kPage, 1));
  touch_writing(kPage);
  EXPECT_TRUE(write(kPage, 2));
  EXPECT_EQ(content(kPage), filled(4096, 2));
  EXPECT_TRUE(read(kPage)) << "and readable with it";
  EXPECT_TRUE(write({kPage.offset + 100, 50}, 3));
  EXPECT_EQ(content({kPage.offset + 100, 50}), filled(50, 3));
  EXPECT_TRUE(write({kGroup - 512, 512}, 4)) << "all of it";
  EXPECT_FALSE(write({kGroup, 512}, 4)) << "its neighbour is not";
}

TEST_F(MappedPagesTest, AFlushTakesTheLeaveToWriteAway) {
  touch_writing(kPage);
  ASSERT_TRUE(write(kPage, 2));
  pages_->cleaned();
  EXPECT_FALSE(write(kPage, 3));
  EXPECT_TRUE(read(kPage));
  for (std::uint32_t i = 1; i < MappedPages::kWriteTouches; ++i) pages_->was_written(kPage, now_);
  EXPECT_FALSE(write(kPage, 3)) << "writes before the flush count for nothing";
  pages_->was_written(kPage, now_);
  EXPECT_TRUE(write(kPage, 3));
}

TEST_F(MappedPagesTest, SlowCopiesSendTheirGroupBack) {
  const auto slow = std::chrono::microseconds(50);
  touch_writing(kPage);
  for (int i = 0; i < 10; ++i) pages_->copied(kPage, std::chrono::microseconds(2), now_);
  pages_->copied(kPage, slow, now_);
  pages_->copied(kPage, slow, now_);
  pages_->copied(kPage, slow, now_ + 1);
  pages_->copied(kPage, slow, now_ + 1);
  EXPECT_TRUE(write(kPage, 2)) << "twice in a generation may be chance";
  pages_->copied(kPage, slow, now_ + 1);
  EXPECT_FALSE(write(kPage, 3));
  EXPECT_TRUE(read(kPage));
  touch_writing(kPage);
  // A large copy may take longer.
  for (int i = 0; i < 10; ++i) pages_->copied({0, kUnit}, slow, now_ + 2);
  EXPECT_TRUE(write(kPage, 3));
}

TEST_F(MappedPagesTest, HolesAreNotFilledByLookingAtThem) {
  ASSERT_EQ(::fdatasync(fd_.get()), 0);
  punch({3 * kUnit, 4096});
  const std::uint64_t before = allocated_bytes(path_);
  touch_reading({3 * kUnit, 512});
  touch_writing(kPage);
  EXPECT_FALSE(write(kPage, 5)) << "in another unit, but in one group of pages with the hole";
  touch_writing({3 * kUnit + 4096, 512});
  EXPECT_FALSE(write({3 * kUnit + 4096, 512}, 5));
  ASSERT_EQ(::fdatasync(fd_.get()), 0);
  EXPECT_EQ(allocated_bytes(path_), before);
  touch_writing({3 * kUnit, 4096});
  EXPECT_TRUE(write({3 * kUnit, 4096}, 5)) << "no hole any more";
}

TEST_F(MappedPagesTest, AllocationIsWhatTheFilesystemSays) {
  struct statfs facts = {};
  ASSERT_EQ(::fstatfs(fd_.get(), &facts), 0);
  constexpr long kExt4 = 0xEF53;
  constexpr long kXfs = 0x58465342;
  if (facts.f_type != kExt4 && facts.f_type != kXfs) GTEST_SKIP() << "unknown filesystem";
  EXPECT_TRUE(is_allocated(fd_.get(), {0, kSize}));
  punch({kUnit, 4096});
  EXPECT_TRUE(is_allocated(fd_.get(), {0, kUnit}));
  EXPECT_FALSE(is_allocated(fd_.get(), {0, kUnit + 1}));
  EXPECT_FALSE(is_allocated(fd_.get(), {kUnit, 4096}));
  EXPECT_TRUE(is_allocated(fd_.get(), {kUnit + 4096, kUnit}));
}

TEST_F(MappedPagesTest, WhatIsDeallocatedIsForgotten) {
  const ByteRange neighbour{kUnit, 512};
  const ByteRange far{kGroup, 512};
  touch_writing(kPage);
  touch_writing(far);
  ASSERT_TRUE(write(kPage, 2) && write(neighbour, 2));
  pages_->forget(kPage);
  EXPECT_FALSE(read(kPage));
  EXPECT_FALSE(write(kPage, 3));
  EXPECT_TRUE(read({0, 4096}) && read(neighbour)) << "what is around it is still there";
  EXPECT_FALSE(write(neighbour, 3)) << "but would be dirtied with it";
  EXPECT_TRUE(write(far, 3));
}

TEST_F(MappedPagesTest, ForgettingAHugeRangeDoubtsEverything) {
  touch_writing(kPage);
  ASSERT_TRUE(write(kPage, 2));
  punch({0, kSize});
  pages_->forget({0, 100 * kTiB});
  EXPECT_FALSE(write(kPage, 3));
  EXPECT_FALSE(read(kPage));
}

TEST_F(MappedPagesTest, OnlyABoundedNumberOfUnitsHasPageTables) {
  make(2);
  touch_writing({0, 512});
  EXPECT_FALSE(write({0, 512}, 1)) << "no room for a group";
  now_ += 5;
  make(2);
  const ByteRange first{0, 512};
  const ByteRange second{kUnit, 512};
  const ByteRange third{2 * kUnit, 512};
  touch_reading(first);
  touch_reading(second);
  touch_reading(third);
  EXPECT_TRUE(read(first) && read(second));
  EXPECT_FALSE(read(third)) << "both others are in use";
  EXPECT_EQ(pages_->attached_units(), 2u);
  now_ += 5;
  EXPECT_TRUE(read(second));
  touch_reading(third);
  EXPECT_TRUE(read(third)) << "instead of the one that was not used";
  EXPECT_TRUE(read(second));
  EXPECT_FALSE(read(first));
  EXPECT_EQ(pages_->attached_units(), 2u);
}

TEST_F(MappedPagesTest, AFileThatWasCutIsAFailedAttempt_I11) {
  touch_writing(kPage);
  touch_reading({kGroup, 512});
  ASSERT_TRUE(write(kPage, 2) && read({kGroup, 512}));
  ASSERT_EQ(::ftruncate(fd_.get(), 4096), 0);
  Bytes into(4096);
  EXPECT_FALSE(pages_->read(kPage.offset, into, now_));
  EXPECT_FALSE(write(kPage, 3));
  EXPECT_FALSE(pages_->read(kGroup, into, now_));
  EXPECT_TRUE(pages_->read(0, into, now_));
}

TEST_F(MappedPagesTest, TheTableOfAHugeDiskCostsWhatIsUsedOfIt) {
#if defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "this sanitizer leaves no room in the address space";
#endif
  constexpr std::uint64_t kHuge = 15 * kTiB;
  const UniqueFd fd(::open((folder_ / "huge").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (::ftruncate(fd.get(), static_cast<off_t>(kHuge)) != 0) GTEST_SKIP() << "no such files here";
  auto mapping = FileMapping::create(fd.get(), kHuge, false, "huge");
  ASSERT_TRUE(mapping.ok()) << mapping.error().message();
  auto pages = MappedPages::create(*std::move(mapping), fd.get(), true);
  ASSERT_TRUE(pages.ok()) << pages.error().message();
  const Bytes bytes = filled(4096, 3);
  const Bytes end = filled(2 * kMiB, 3);
  ASSERT_EQ(::pwrite(fd.get(), end.data(), end.size(), static_cast<off_t>(kHuge - end.size())),
            static_cast<ssize_t>(end.size()));
  for (std::uint32_t i = 0; i < MappedPages::kWriteTouches; ++i) {
    (*pages)->was_written({kHuge - 4096, 4096}, now_);
  }
  EXPECT_TRUE((*pages)->write(kHuge - 4096, bytes, now_));
  (*pages)->forget({0, kHuge});
  EXPECT_FALSE((*pages)->write(kHuge - 4096, bytes, now_));
}

TEST_F(MappedPagesTest, ReadersAndWritersInManyThreads) {
  // Different units, shared state: for the sanitizer.
  std::vector<std::thread> threads;
  std::atomic<int> mapped{0};
  for (std::uint64_t id = 0; id < 3; ++id) {
    threads.emplace_back([&, id] {
      const Bytes bytes = filled(4096, static_cast<int>(id));
      Bytes into(4096);
      for (std::uint32_t i = 0; i < 2000; ++i) {
        const ByteRange range{id * kUnit + (i % 16) * 4096, 4096};
        if (!pages_->write(range.offset, bytes, now_ + i / 500)) {
          (void)!::pwrite(fd_.get(), bytes.data(), bytes.size(), static_cast<off_t>(range.offset));
          pages_->was_written(range, now_ + i / 500);
        } else {
          ++mapped;
        }
        if (!pages_->read(range.offset, into, now_ + i / 500)) pages_->was_read(range, now_);
        if (i % 500 == 499) pages_->cleaned();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(mapped, 0);
  for (std::uint64_t id = 0; id < 3; ++id) {
    EXPECT_EQ(content({id * kUnit, 16 * 4096}), filled(16 * 4096, static_cast<int>(id)));
  }
}

TEST(FileMapping, RefusesAUserWhomTheKernelDoesNotTellWhatIsInMemory) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  TemporaryFolder folder;
  const std::string path = folder / "disk.img";
  write_file(path, filled(8192, 1));
  ASSERT_EQ(::chmod(path.c_str(), 0444), 0);
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  std::thread([&] {
    // Of this thread only: the C library's functions would change all.
    ASSERT_EQ(::syscall(SYS_setresuid, 65534, 65534, 65534), 0);
    auto mapping = FileMapping::create(fd.get(), 8192, true, path);
    ASSERT_FALSE(mapping.ok());
    EXPECT_EQ(mapping.error().code(), ErrorCode::kNotSupported);
    EXPECT_NE(mapping.error().message().find(path), std::string::npos);
  }).join();
  EXPECT_TRUE(FileMapping::create(fd.get(), 8192, true, path).ok());
}

TEST(FileMapping, SaysWhyAFileCannotBeMapped) {
  const UniqueFd fd(::open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  auto mapping = FileMapping::create(fd.get(), 4096, true, "status");
  ASSERT_FALSE(mapping.ok());
  EXPECT_EQ(mapping.error().code(), ErrorCode::kNotSupported);
  EXPECT_NE(mapping.error().message().find("status: cannot be mapped"), std::string::npos);
}

}  // namespace
}  // namespace blockmig

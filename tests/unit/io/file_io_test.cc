// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/file_calls.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/io/loops.h"

namespace blockmig {
namespace {

using Bytes = std::vector<std::byte>;

Bytes random_bytes(std::size_t size, std::uint64_t seed) {
  Random random(seed);
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

class FileIoTest : public LoopTest {
 protected:
  void SetUp() override {
    LoopTest::SetUp();
    std::string name = testing::TempDir() + "blockmig-io-XXXXXX";
    file_ = UniqueFd(::mkostemp(name.data(), O_CLOEXEC));
    ASSERT_TRUE(file_);
    path_ = name;
  }
  void TearDown() override {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  Result<std::size_t> read(MutableBytes into, std::uint64_t offset) {
    return run(loop().read_at(file_.get(), into, offset));
  }
  Result<std::size_t> write(ConstBytes from, std::uint64_t offset, bool durable = false) {
    return run(loop().write_at(file_.get(), from, offset, durable));
  }
  struct stat status() {
    struct stat result {};
    EXPECT_EQ(::fstat(file_.get(), &result), 0);
    return result;
  }

  UniqueFd file_;
  std::string path_;
};
INSTANTIATE_TEST_SUITE_P(Loops, FileIoTest, all_loops(), loop_name);

TEST_P(FileIoTest, WritesAndReadsBack) {
  std::uint64_t seed = 1;
  for (const std::size_t size : {std::size_t{1}, std::size_t{511}, std::size_t{4096},
                                 std::size_t{65537}, std::size_t{(1 << 20) + 7}}) {
    for (const bool durable : {false, true}) {
      const Bytes bytes = random_bytes(size, seed++);
      const std::uint64_t offset = 1000 * seed;
      const auto written = write(bytes, offset, durable);
      ASSERT_TRUE(written) << written.error().message();
      EXPECT_EQ(*written, size);
      Bytes back(size);
      const auto got = read(back, offset);
      ASSERT_TRUE(got);
      EXPECT_EQ(*got, size);
      EXPECT_EQ(back, bytes);
    }
  }
  EXPECT_TRUE(run(loop().sync(file_.get())));
}

/// Pages of the file that are not on stable storage yet (cachestat(2), Linux 6.5); nullopt if the
/// kernel does not say.
std::optional<std::uint64_t> unstable_pages(int fd) {
  constexpr long kCachestat = 451;
  const std::uint64_t whole_file[2] = {0, 0};
  std::uint64_t counts[5] = {};  // cached, dirty, under write-back, evicted, recently evicted
  if (::syscall(kCachestat, fd, whole_file, counts, 0) != 0) return std::nullopt;
  return counts[1] + counts[2];
}

TEST_P(FileIoTest, ADurableWriteAndASyncLeaveNothingInTheCacheOnly_I1) {
  const Bytes bytes = random_bytes(1 << 20, 1);
  ASSERT_TRUE(write(bytes, 0, false));
  const auto before = unstable_pages(file_.get());
  if (!before || *before == 0) GTEST_SKIP() << "the kernel does not say what is unstable";
  ASSERT_TRUE(run(loop().sync(file_.get())));
  EXPECT_EQ(unstable_pages(file_.get()), 0u);
  ASSERT_TRUE(write(bytes, 0, false));
  EXPECT_NE(unstable_pages(file_.get()), 0u);
  ASSERT_TRUE(write(bytes, 0, true));
  EXPECT_EQ(unstable_pages(file_.get()), 0u);
}

TEST_P(FileIoTest, EmptyTransfersSucceed) {
  EXPECT_EQ(*write({}, 5), 0u);
  EXPECT_EQ(*read({}, 5), 0u);
  EXPECT_EQ(status().st_size, 0);
}

TEST_P(FileIoTest, AShortReadIsTheEndOfTheFile) {
  const Bytes bytes = random_bytes(1000, 1);
  ASSERT_TRUE(write(bytes, 0));
  Bytes into(4096);
  EXPECT_EQ(*read(into, 0), 1000u);
  EXPECT_EQ(std::memcmp(into.data(), bytes.data(), 1000), 0);
  EXPECT_EQ(*read(into, 999), 1u);
  EXPECT_EQ(*read(into, 1000), 0u);
  EXPECT_EQ(*read(into, 1u << 20), 0u);
}

struct AlignedFree {
  void operator()(std::byte* bytes) const { ::operator delete(bytes, std::align_val_t(4096)); }
};

TEST_P(FileIoTest, AnOddEndOfFileIsNoErrorWithDirectIo_Trap7) {
  const Bytes bytes = random_bytes(5000, 1);
  ASSERT_TRUE(write(bytes, 0));
  const UniqueFd direct(::open(path_.c_str(), O_RDONLY | O_DIRECT | O_CLOEXEC));
  if (!direct) GTEST_SKIP() << "no O_DIRECT on " << path_;
  const std::unique_ptr<std::byte, AlignedFree> buffer(
      static_cast<std::byte*>(::operator new(16384, std::align_val_t(4096))));
  const MutableBytes into(buffer.get(), 16384);
  const auto got = run(loop().read_at(direct.get(), into, 0));
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(*got, 5000u);
  EXPECT_EQ(std::memcmp(into.data(), bytes.data(), 5000), 0);
}

TEST_P(FileIoTest, AFullDiskIsNoSpace) {
  const UniqueFd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  const Bytes bytes(100);
  const auto written = run(loop().write_at(full.get(), bytes, 0, false));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kNoSpace);
}

/// Files end at so many bytes while this lives: the kernel's own short writes.
class FileSizeLimit final {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &old_);
    const rlimit limit{bytes, old_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST_P(FileIoTest, ADiskThatBecomesFullGivesAShortCount) {
  const FileSizeLimit limit(10'000);
  const Bytes bytes = random_bytes(20'000, 1);
  const auto written = write(bytes, 0);
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(*written, 10'000u);
  const auto nothing = write(bytes, 10'000);
  ASSERT_FALSE(nothing);
  EXPECT_EQ(nothing.error().code(), ErrorCode::kNoSpace);
}

TEST_P(FileIoTest, ErrorsAreNamed) {
  const UniqueFd read_only(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  const Bytes bytes(10);
  const auto written = run(loop().write_at(read_only.get(), bytes, 4711, false));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().os_errno(), EBADF);
  EXPECT_NE(written.error().message().find("write of 10 bytes at 4711"), std::string::npos);
  Bytes into(10);
  const auto got = run(loop().read_at(-1, into, 0));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().os_errno(), EBADF);
}

TEST_P(FileIoTest, AFailedSyncIsAnError_I11) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd in(pipe[0]);
  const UniqueFd out(pipe[1]);
  const Status synced = run(loop().sync(out.get()));
  ASSERT_FALSE(synced);
  EXPECT_EQ(synced.error().os_errno(), EINVAL);
  const Status bad = run(loop().sync(-1));
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().os_errno(), EBADF);
}

TEST_P(FileIoTest, PunchesHoles) {
  const Bytes bytes = random_bytes(1 << 20, 1);
  ASSERT_TRUE(write(bytes, 0));
  ASSERT_TRUE(run(loop().sync(file_.get())));
  const auto blocks = status().st_blocks;
  const Status punched =
      run(loop().allocate(file_.get(), AllocateMode::kPunchHole, 65536, 3 * 65536));
  if (!punched && punched.error().code() == ErrorCode::kNotSupported) GTEST_SKIP();
  ASSERT_TRUE(punched) << punched.error().message();
  Bytes back(1 << 20);
  ASSERT_EQ(*read(back, 0), back.size());
  Bytes expected = bytes;
  std::fill(expected.begin() + 65536, expected.begin() + 4 * 65536, std::byte{0});
  EXPECT_EQ(back, expected);
  EXPECT_LT(status().st_blocks, blocks);
}

TEST_P(FileIoTest, ZeroesARangeAndKeepsItAllocated) {
  const Bytes bytes = random_bytes(1 << 20, 1);
  ASSERT_TRUE(write(bytes, 0));
  ASSERT_TRUE(run(loop().sync(file_.get())));
  const auto blocks = status().st_blocks;
  const Status zeroed = run(loop().allocate(file_.get(), AllocateMode::kZeroRange, 65536, 65536));
  if (!zeroed && zeroed.error().code() == ErrorCode::kNotSupported) GTEST_SKIP();
  ASSERT_TRUE(zeroed) << zeroed.error().message();
  Bytes back(1 << 20);
  ASSERT_EQ(*read(back, 0), back.size());
  Bytes expected = bytes;
  std::fill(expected.begin() + 65536, expected.begin() + 2 * 65536, std::byte{0});
  EXPECT_EQ(back, expected);
  EXPECT_GE(status().st_blocks, blocks);
}

TEST_P(FileIoTest, ReservesSpaceAndKeepsContentsAndSize) {
  const Bytes bytes = random_bytes(1000, 1);
  ASSERT_TRUE(write(bytes, 0));
  const Status reserved = run(loop().allocate(file_.get(), AllocateMode::kReserve, 0, 1 << 20));
  if (!reserved && reserved.error().code() == ErrorCode::kNotSupported) GTEST_SKIP();
  ASSERT_TRUE(reserved);
  EXPECT_EQ(status().st_size, 1000);
  EXPECT_GE(status().st_blocks * 512, 1 << 20);
  Bytes back(1000);
  ASSERT_EQ(*read(back, 0), 1000u);
  EXPECT_EQ(back, bytes);
}

TEST_P(FileIoTest, AllocateFailsWithTheKernelsReasonAndNothingIsNothing) {
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd in(pipe[0]);
  const UniqueFd out(pipe[1]);
  EXPECT_FALSE(run(loop().allocate(out.get(), AllocateMode::kPunchHole, 0, 4096)));
  EXPECT_TRUE(run(loop().allocate(file_.get(), AllocateMode::kPunchHole, 0, 0)));
}

Task<void> write_and_read_back(IoLoop& loop, int fd, std::uint64_t block, int& good) {
  const Bytes bytes = random_bytes(4096, block);
  const auto written = co_await loop.write_at(fd, bytes, block * 4096, false);
  Bytes back(4096);
  const auto got = co_await loop.read_at(fd, back, block * 4096);
  if (written.ok() && got.ok() && back == bytes) ++good;
}

Task<int> many_at_once(IoLoop& loop, int fd, std::uint64_t count) {
  int good = 0;
  TaskScope scope;
  for (std::uint64_t block = 0; block < count; ++block) {
    scope.spawn(write_and_read_back(loop, fd, block, good));
  }
  co_await scope.join();
  co_return good;
}

TEST_P(FileIoTest, MoreAtOnceThanTheRingHolds) {
  EXPECT_EQ(run(many_at_once(loop(), file_.get(), 6000)), 6000);
}

Task<void> write_for_ever(IoLoop& loop, int fd, const Bytes& bytes, bool& written) {
  const auto result = co_await loop.write_at(fd, bytes, 0, false);
  written = result.ok();
}

TEST_P(FileIoTest, DestroyingTheLoopWaitsForTheKernelToLetGoOfTheBuffers) {
  // The portable loop joins its threads, which AnyLoop tests; they refuse to write to a pipe at an
  // offset.
  if (GetParam() == TestLoop::kPortable) GTEST_SKIP();
  // The write stays in a full pipe until the reader takes it, from another thread, while the loop
  // goes.
  int pipe[2];
  ASSERT_EQ(::pipe2(pipe, O_CLOEXEC), 0);
  const UniqueFd in(pipe[0]);
  UniqueFd out(pipe[1]);
  const int capacity = ::fcntl(out.get(), F_GETPIPE_SZ);
  const Bytes filling(static_cast<std::size_t>(capacity));
  ASSERT_EQ(::write(out.get(), filling.data(), filling.size()), capacity);
  const Bytes bytes = random_bytes(100, 1);
  bool written = false;
  // Started by hand: nobody will resume it, and its frame goes with the Task at the end of this
  // test.
  const Task<void> task = write_for_ever(loop(), out.get(), bytes, written);
  auto awaiter = task.operator co_await();
  ASSERT_TRUE(awaiter.await_suspend(std::noop_coroutine()));
  settle();
  std::thread reader([&in, &filling] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    Bytes into(filling.size() + 100);
    std::size_t total = 0;
    while (total < into.size()) {
      const ssize_t got = ::read(in.get(), into.data() + total, into.size() - total);
      if (got <= 0) break;
      total += static_cast<std::size_t>(got);
    }
    EXPECT_EQ(total, into.size());
  });
  loop_.reset();
  out.reset();
  reader.join();
  EXPECT_FALSE(written) << "the task was resumed after its loop was gone";
}

TEST(Transfer, GoesOnAfterPartsAndInterruptions) {
  Transfer transfer(Transfer::Kind::kWrite, -1, 100, 50);
  EXPECT_EQ(transfer.next_offset(), 100u);
  transfer.advance(-EINTR);
  transfer.advance(-EAGAIN);
  transfer.advance(20);
  EXPECT_FALSE(transfer.finished());
  EXPECT_EQ(transfer.next_offset(), 120u);
  EXPECT_EQ(transfer.next_length(), 30u);
  transfer.advance(30);
  ASSERT_TRUE(transfer.finished());
  EXPECT_EQ(*transfer.result(), 50u);
}

TEST(Transfer, AnErrorAfterAPartFailsTheWhole_I11) {
  for (const auto kind : {Transfer::Kind::kRead, Transfer::Kind::kWrite}) {
    Transfer transfer(kind, -1, 0, 50);
    transfer.advance(20);
    transfer.advance(-EIO);
    ASSERT_TRUE(transfer.finished());
    EXPECT_EQ(transfer.result().error().code(), ErrorCode::kIo);
  }
}

TEST(Transfer, NoSpaceAfterAPartIsAShortCountOnlyForWrites) {
  Transfer write(Transfer::Kind::kWrite, -1, 0, 50);
  write.advance(20);
  write.advance(-ENOSPC);
  EXPECT_EQ(*write.result(), 20u);
  Transfer read(Transfer::Kind::kRead, -1, 0, 50);
  read.advance(20);
  read.advance(-ENOSPC);
  EXPECT_FALSE(read.result());
}

TEST(Transfer, AWriteThatTakesNothingIsAnError_I11) {
  Transfer transfer(Transfer::Kind::kWrite, -1, 0, 50);
  transfer.advance(20);
  transfer.advance(0);
  ASSERT_TRUE(transfer.finished());
  EXPECT_EQ(transfer.result().error().code(), ErrorCode::kIo);
}

TEST(Transfer, InvalidAfterAPartIsTheEndOnlyAtTheEndOfTheFile) {
  std::string name = testing::TempDir() + "blockmig-transfer-XXXXXX";
  const UniqueFd file(::mkostemp(name.data(), O_CLOEXEC));
  ASSERT_TRUE(file);
  ::unlink(name.c_str());
  ASSERT_EQ(::ftruncate(file.get(), 1000), 0);
  Transfer at_end(Transfer::Kind::kRead, file.get(), 0, 4096);
  at_end.advance(1000);
  at_end.advance(-EINVAL);
  EXPECT_EQ(*at_end.result(), 1000u);
  Transfer before_end(Transfer::Kind::kRead, file.get(), 0, 4096);
  before_end.advance(500);
  before_end.advance(-EINVAL);
  EXPECT_EQ(before_end.result().error().code(), ErrorCode::kInvalid);
}

TEST(Transfer, AsksForAtMostWhatTheKernelTakesInOneCall) {
  Transfer transfer(Transfer::Kind::kRead, -1, 0, 5 * kGiB);
  EXPECT_EQ(transfer.next_length(), kGiB);
  transfer.advance(static_cast<std::int64_t>(kGiB));
  EXPECT_EQ(transfer.next_offset(), kGiB);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/fault_guard.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <thread>
#include <vector>

#include "blockmig/block/stream_copy.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/block/store_fixture.h"

namespace blockmig {
namespace {

constexpr std::size_t kSize = 64 * kKiB;

/// A mapped file whose second half was cut off under the mapping.
class CutFile {
 public:
  CutFile() {
    // Without a name: processes that a signal ends leave nothing behind.
    const UniqueFd fd(::memfd_create("cut", MFD_CLOEXEC));
    const Bytes content = filled(kSize, 7);
    EXPECT_EQ(::write(fd.get(), content.data(), kSize), static_cast<ssize_t>(kSize));
    void* const at = ::mmap(nullptr, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    EXPECT_NE(at, MAP_FAILED);
    bytes_ = MutableBytes(static_cast<std::byte*>(at), kSize);
    EXPECT_EQ(::ftruncate(fd.get(), kSize / 2), 0);
  }
  ~CutFile() { ::munmap(bytes_.data(), kSize); }
  MutableBytes bytes() const { return bytes_; }

 private:
  MutableBytes bytes_;
};

TEST(FaultGuard, ACopyFromWhereTheFileEndedFailsAndNothingElse) {
  install_fault_guard();
  const CutFile file;
  Bytes into(kSize);
  for (int round = 0; round < 3; ++round) {
    EXPECT_FALSE(copy_guarded(into, file.bytes(), file.bytes()));
    const MutableBytes half = MutableBytes(into).first(kSize / 2);
    EXPECT_TRUE(copy_guarded(half, file.bytes().first(kSize / 2), file.bytes()));
    EXPECT_EQ(Bytes(half.begin(), half.end()), filled(kSize / 2, 7));
  }
}

TEST(FaultGuard, ACopyToWhereTheFileEndedFails) {
  install_fault_guard();
  const CutFile file;
  EXPECT_FALSE(copy_guarded(file.bytes(), filled(kSize, 9), file.bytes()));
  EXPECT_TRUE(copy_guarded(file.bytes().first(10), filled(10, 9), file.bytes()));
}

TEST(StreamCopy, CopiesEachByteAndNoOther) {
  const Bytes from = filled(3 * kMinStreamedBytes, 5);
  Bytes area(4 * kMinStreamedBytes);
  const std::size_t line =
      kCacheLineBytes - reinterpret_cast<std::uintptr_t>(area.data()) % kCacheLineBytes;
  for (const std::size_t offset : {line, line + 1, line + 512}) {
    for (const std::size_t size :
         {std::size_t{1}, kMinStreamedBytes - kCacheLineBytes, kMinStreamedBytes,
          kMinStreamedBytes + 1, kMinStreamedBytes + kCacheLineBytes, 2 * kMinStreamedBytes}) {
      std::fill(area.begin(), area.end(), std::byte{0xee});
      stream_copy(MutableBytes(area).subspan(offset, size), ConstBytes(from).subspan(3, size));
      Bytes expected(area.size(), std::byte{0xee});
      std::copy_n(from.begin() + 3, size, expected.begin() + static_cast<std::ptrdiff_t>(offset));
      ASSERT_EQ(area, expected) << offset << " " << size;
    }
  }
}

TEST(FaultGuard, EachThreadHasItsOwn) {
  install_fault_guard();
  const CutFile file;
  std::atomic<int> failed{0};
  std::atomic<int> fine{0};
  std::vector<std::thread> threads;
  for (int id = 0; id < 4; ++id) {
    threads.emplace_back([&, id] {
      Bytes into(4096);
      const bool beyond = id % 2 == 0;
      for (int i = 0; i < 200; ++i) {
        const ConstBytes from = file.bytes().subspan(beyond ? kSize / 2 : 0, 4096);
        ++(copy_guarded(into, from, file.bytes()) ? fine : failed);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failed, 400);
  EXPECT_EQ(fine, 400);
}

using FaultGuardDeathTest = testing::Test;

/// In a process of its own: the handler is installed once in each.
void copy_outside_the_guarded_memory() {
  install_fault_guard();
  const CutFile guarded;
  const CutFile other;
  Bytes into(kSize);
  (void)copy_guarded(into, other.bytes(), guarded.bytes());
}

volatile std::sig_atomic_t earlier_handler_ran = 0;

TEST(FaultGuardDeathTest, AFaultElsewhereEndsTheProcessAsEver) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, SIG_DFL);  // a sanitizer may have its own
        copy_outside_the_guarded_memory();
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST(FaultGuardDeathTest, ASignalThatSomebodySentEndsTheProcessAsEver) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, SIG_DFL);
        install_fault_guard();
        ::raise(SIGBUS);
      },
      testing::KilledBySignal(SIGBUS), "");
}

TEST(FaultGuardDeathTest, AnEarlierHandlerGetsWhatIsNotOurs) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, [](int) { ::_exit(42); });
        copy_outside_the_guarded_memory();
      },
      testing::ExitedWithCode(42), "");
  EXPECT_EXIT(
      {
        ::signal(SIGBUS, [](int) { earlier_handler_ran = 1; });
        install_fault_guard();
        ::raise(SIGBUS);
        ::_exit(earlier_handler_ran == 1 ? 42 : 1);
      },
      testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// No edge is lost while another thread is at the other end.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <optional>
#include <thread>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/task_scope.h"
#include "tests/unit/io/fd_watch_fixture.h"

namespace blockmig {
namespace {

class FdWatchEdgesTest : public FdWatchTest {};
INSTANTIATE_TEST_SUITE_P(Loops, FdWatchEdgesTest, all_loops(), loop_name);

/// Events wait in the kernel until the loop enters it.
class DeferredEdgesTest : public FdWatchTest {};
INSTANTIATE_TEST_SUITE_P(Loops, DeferredEdgesTest, testing::Values(TestLoop::kUringDeferred),
                         loop_name);

Task<long> receive_until(FdWatch& watch, int fd, long expected) {
  std::array<char, 512> bytes;
  long total = 0;
  while (total < expected) {
    const ssize_t got = ::recv(fd, bytes.data(), bytes.size(), 0);
    if (got > 0) {
      total += got;
      continue;
    }
    if (got == 0 || errno != EAGAIN) break;
    const bool alive = co_await watch.readable();
    if (!alive) break;
  }
  co_return total;
}

// A lost edge leaves bytes in the socket and the reader waiting: the watchdog then ends the wait.
TEST_P(FdWatchEdgesTest, NoReadEdgeIsLostUnderAnIrregularWriter) {
  constexpr long kBytes = 400'000;
  const auto watch = loop().watch(ours_.get());
  std::thread writer([this] {
    Random random(5);
    const std::vector<char> bytes(2000);
    long left = kBytes;
    while (left > 0) {
      const auto size = static_cast<std::size_t>(
          std::min<long>(left, static_cast<long>(random.between(1, bytes.size()))));
      const ssize_t sent = ::send(theirs_.get(), bytes.data(), size, MSG_NOSIGNAL);
      if (sent > 0) left -= sent;
      if (sent < 0 || random.chance(1, 3)) {
        std::this_thread::sleep_for(std::chrono::microseconds(random.below(60)));
      }
    }
  });
  Timer watchdog(loop(), [&watch] { watch->cancel(); });
  watchdog.arm(loop().now() + std::chrono::seconds(40));
  EXPECT_EQ(run(receive_until(*watch, ours_.get(), kBytes)), kBytes);
  watchdog.disarm();
  writer.join();
}

constexpr std::size_t kBurst = 200;

/// All but a burst's last byte are received without a turn of the loop. False: an edge was lost.
Task<bool> receive_bursts(IoLoop& loop, FdWatch& watch, int fd, int count, TimePoint until) {
  std::array<char, kBurst> bytes;
  bool alive = co_await watch.readable();
  for (int burst = 0; alive && burst < count && loop.now() < until; ++burst) {
    for (std::size_t left = kBurst - 1; left > 0;) {
      const ssize_t got = ::recv(fd, bytes.data(), left, 0);
      if (got > 0) left -= static_cast<std::size_t>(got);
    }
    while (alive && ::recv(fd, bytes.data(), 1, 0) != 1) {
      alive = co_await watch.readable();
    }
    (void)!::send(fd, "a", 1, MSG_NOSIGNAL);
  }
  co_return alive;
}

// What the kernel may lose, and why, is said in uring_polls.h: two events that it had not worked
// off when their data was taken are no edge any more, and behind many such ones a real edge may be
// overlooked.
TEST_P(DeferredEdgesTest, AReaderLooksAgainBehindEventsWhoseDataItTookEarly) {
  const auto watch = loop().watch(ours_.get());
  send_byte();
  EXPECT_TRUE(run(wait_readable(*watch)));
  EXPECT_EQ(drain(), 1);
  std::optional<bool> outcome;
  TaskScope scope;
  loop().post([&] {
    send_byte();
    send_byte();
    EXPECT_EQ(drain(), 2);
    scope.spawn(note_readable(*watch, outcome));
  });
  settle();
  EXPECT_EQ(outcome, true);
  outcome.reset();
  scope.spawn(note_readable(*watch, outcome));
  settle();
  EXPECT_FALSE(outcome) << "once is enough";
  send_byte();
  settle();
}

TEST_P(FdWatchEdgesTest, NoReadEdgeIsLostBehindManyThatNobodyTook) {
  // Where events are worked off only when the loop enters the kernel: seen in one of 375 to 6,400.
  const int bursts = GetParam() == TestLoop::kUringDeferred ? 20'000 : 1000;
  const auto watch = loop().watch(ours_.get());
  std::atomic<bool> over = false;
  std::thread writer([&] {
    Random random(7);
    char answer;
    while (!over) {
      for (std::size_t i = 0; i < kBurst - 1; ++i) send_byte();
      for (std::uint64_t spin = random.below(3000); spin > 0; --spin) asm volatile("");
      send_byte();
      while (!over && ::recv(theirs_.get(), &answer, 1, 0) != 1) {
      }
    }
  });
  const TimePoint until = loop().now() + std::chrono::seconds(4);  // on a busy machine
  Timer watchdog(loop(), [&watch] { watch->cancel(); });
  watchdog.arm(until + std::chrono::seconds(20));
  EXPECT_TRUE(run(receive_bursts(loop(), *watch, ours_.get(), bursts, until)));
  watchdog.disarm();
  over = true;
  writer.join();
}

Task<long> send_until(FdWatch& watch, int fd, long count) {
  const std::vector<char> bytes(4096);
  long total = 0;
  while (total < count) {
    const auto size = static_cast<std::size_t>(std::min<long>(count - total, 4096));
    const ssize_t sent = ::send(fd, bytes.data(), size, MSG_NOSIGNAL);
    if (sent > 0) {
      total += sent;
      continue;
    }
    if (errno != EAGAIN) break;
    const bool alive = co_await watch.writable();
    if (!alive) break;
  }
  co_return total;
}

TEST_P(FdWatchEdgesTest, NoWriteEdgeIsLostUnderAnIrregularReader) {
  constexpr long kBytes = 20'000'000;
  const auto watch = loop().watch(ours_.get());
  std::atomic<long> received = 0;
  std::thread reader([&] {
    Random random(6);
    std::vector<char> bytes(100'000);
    while (received < kBytes) {
      const auto size = static_cast<std::size_t>(random.between(1, bytes.size()));
      const ssize_t got = ::recv(theirs_.get(), bytes.data(), size, 0);
      if (got > 0) received += got;
      if (got == 0) return;
      if (got < 0) std::this_thread::sleep_for(std::chrono::microseconds(random.below(30)));
    }
  });
  Timer watchdog(loop(), [&watch] { watch->cancel(); });
  watchdog.arm(loop().now() + std::chrono::seconds(40));
  EXPECT_EQ(run(send_until(*watch, ours_.get(), kBytes)), kBytes);
  watchdog.disarm();
  ours_.reset();
  reader.join();
  EXPECT_EQ(received, kBytes);
}

}  // namespace
}  // namespace blockmig

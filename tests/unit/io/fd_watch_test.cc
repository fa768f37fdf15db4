// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <optional>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/io/fd_watch_fixture.h"

namespace blockmig {
namespace {

INSTANTIATE_TEST_SUITE_P(Loops, FdWatchTest, all_loops(), loop_name);

TEST_P(FdWatchTest, WhatIsThereBeforeTheFirstWaitIsReported) {
  const auto watch = loop().watch(ours_.get());
  send_byte();
  EXPECT_TRUE(run(wait_readable(*watch)));
  EXPECT_EQ(drain(), 1);
}

TEST_P(FdWatchTest, WaitsUntilSomethingComes) {
  const auto watch = loop().watch(ours_.get());
  std::optional<bool> outcome;
  TaskScope scope;
  scope.spawn(note_readable(*watch, outcome));
  settle();
  EXPECT_FALSE(outcome);
  send_byte();
  settle();
  EXPECT_EQ(outcome, true);
}

TEST_P(FdWatchTest, AnEdgeThatNobodyWaitsForIsKept) {
  const auto watch = loop().watch(ours_.get());
  send_byte();
  EXPECT_TRUE(run(wait_readable(*watch)));
  EXPECT_EQ(drain(), 1);
  send_byte();
  settle();  // the loop sees the edge now
  EXPECT_TRUE(run(wait_readable(*watch)));
  EXPECT_EQ(drain(), 1);
}

TEST_P(FdWatchTest, EveryRoundHasItsEdge) {
  const auto watch = loop().watch(ours_.get());
  for (int i = 0; i < 2000; ++i) {
    send_byte();
    long got = 0;
    while (got == 0) {
      ASSERT_TRUE(run(wait_readable(*watch)));
      got = drain();  // 0 after an edge whose bytes were read earlier
    }
    ASSERT_EQ(got, 1);
  }
}

TEST_P(FdWatchTest, WaitsUntilThereIsRoomToWrite) {
  const auto watch = loop().watch(ours_.get());
  for (int round = 0; round < 20; ++round) {
    fill();
    std::optional<bool> outcome;
    TaskScope scope;
    // An edge from before may be kept: then there is a try and another wait.
    while (!outcome) {
      scope.spawn(note_writable(*watch, outcome));
      settle();
      if (!outcome) break;
      fill();
      outcome.reset();
    }
    std::vector<char> bytes(1 << 20);
    while (::recv(theirs_.get(), bytes.data(), bytes.size(), 0) > 0) {
    }
    settle();
    ASSERT_EQ(outcome, true) << "round " << round;
  }
}

TEST_P(FdWatchTest, ReadingAndWritingAreWaitedForIndependently) {
  const auto watch = loop().watch(ours_.get());
  std::optional<bool> readable;
  std::optional<bool> writable;
  TaskScope scope;
  fill();
  scope.spawn(note_readable(*watch, readable));
  scope.spawn(note_writable(*watch, writable));
  settle();
  EXPECT_FALSE(readable);
  EXPECT_FALSE(writable);
  send_byte();
  settle();
  EXPECT_EQ(readable, true);
  EXPECT_FALSE(writable);
  std::vector<char> bytes(1 << 20);
  while (::recv(theirs_.get(), bytes.data(), bytes.size(), 0) > 0) {
  }
  settle();
  EXPECT_EQ(writable, true);
}

TEST_P(FdWatchTest, WritingIsWaitedForAgainAfterEventsThatNobodyAskedFor) {
  const auto watch = loop().watch(ours_.get());
  std::vector<char> bytes(1 << 20);
  for (int round = 0; round < 10; ++round) {
    fill();
    std::optional<bool> writable;
    TaskScope scope;
    scope.spawn(note_writable(*watch, writable));
    settle();
    ASSERT_FALSE(writable) << "round " << round;
    while (::recv(theirs_.get(), bytes.data(), bytes.size(), 0) > 0) {
    }
    settle();
    ASSERT_EQ(writable, true) << "round " << round;
    // Something to read, while there is room to write and nobody waits for that.
    send_byte();
    EXPECT_TRUE(run(wait_readable(*watch)));
    EXPECT_EQ(drain(), 1);
    fill();
    writable.reset();
    scope.spawn(note_writable(*watch, writable));  // takes an edge that was kept, if any
    settle();
    while (::recv(theirs_.get(), bytes.data(), bytes.size(), 0) > 0) {
    }
    settle();
    ASSERT_EQ(writable, true) << "round " << round;
  }
}

TEST_P(FdWatchTest, AHangUpWakesBothDirections) {
  const auto watch = loop().watch(ours_.get());
  std::optional<bool> readable;
  std::optional<bool> writable;
  TaskScope scope;
  fill();
  scope.spawn(note_readable(*watch, readable));
  scope.spawn(note_writable(*watch, writable));
  settle();
  theirs_.reset();
  settle();
  EXPECT_EQ(readable, true);
  EXPECT_EQ(writable, true);
}

TEST_P(FdWatchTest, CancelWakesBothWaitersAndEndsEveryLaterWait) {
  const auto watch = loop().watch(ours_.get());
  std::optional<bool> readable;
  std::optional<bool> writable;
  TaskScope scope;
  fill();
  scope.spawn(note_readable(*watch, readable));
  scope.spawn(note_writable(*watch, writable));
  settle();
  watch->cancel();
  settle();
  EXPECT_EQ(readable, false);
  EXPECT_EQ(writable, false);
  send_byte();
  EXPECT_FALSE(run(wait_readable(*watch)));
  EXPECT_FALSE(run(wait_writable(*watch)));
}

TEST_P(FdWatchTest, EventsOfADestroyedWatchReachNobody) {
  // Watches come and go on one descriptor while events for them are under way; slots are used
  // again.
  for (int i = 0; i < 60; ++i) {
    auto old_watch = loop().watch(ours_.get());
    std::optional<bool> outcome;
    {
      TaskScope scope;
      scope.spawn(note_readable(*old_watch, outcome));
      settle();
      send_byte();
      old_watch->cancel();
      loop().post([this] { loop().stop(); });
      loop().run();
      ASSERT_EQ(outcome, false);
    }
    old_watch.reset();
    const auto new_watch = loop().watch(theirs_.get());
    TaskScope scope;
    outcome.reset();
    scope.spawn(note_readable(*new_watch, outcome));
    settle();
    ASSERT_FALSE(outcome) << "an event of the old watch woke the new one, round " << i;
    new_watch->cancel();
    settle();
    ASSERT_EQ(drain(), 1);
  }
}

Task<void> watch_and_destroy(IoLoop& loop, int fd, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    const auto watch = loop.watch(fd);
    const bool alive = co_await watch->readable();
    EXPECT_TRUE(alive);
  }
}

TEST_P(FdWatchTest, WatchesAreMadeAndDestroyedInsideTheLoopWithAPollUnderWay) {
  send_byte();
  run(watch_and_destroy(loop(), ours_.get(), 1000));
}

TEST_P(FdWatchTest, OutsideRunADestroyedWatchLetsGoOfTheFileAtOnce) {
  std::optional<bool> outcome;
  {
    const auto watch = loop().watch(ours_.get());
    TaskScope scope;
    scope.spawn(note_readable(*watch, outcome));
    settle();
    watch->cancel();
    settle();
  }
  ours_.reset();
  char byte;
  EXPECT_EQ(::recv(theirs_.get(), &byte, 1, 0), 0) << "the kernel still holds the file";
}

TEST_P(FdWatchTest, AWatchDestroyedBesideAnEventLetsGoOfTheFile) {
  auto watch = loop().watch(ours_.get());
  send_byte();
  ASSERT_TRUE(run(wait_readable(*watch)));
  drain();
  loop().post([&] {
    send_byte();  // the kernel has an event to report when the poll is to be removed
    drain();
    watch.reset();
    ours_.reset();
  });
  settle();
  char byte;
  EXPECT_EQ(::recv(theirs_.get(), &byte, 1, 0), 0) << "the kernel still holds the file";
}

TEST_P(FdWatchTest, ManyWatchesMoreThanOneSubmissionHolds) {
  constexpr std::size_t kPairs = 700;
  std::vector<UniqueFd> sockets;
  std::vector<std::unique_ptr<FdWatch>> watches;
  std::vector<std::optional<bool>> outcomes(kPairs);
  TaskScope scope;
  for (std::size_t i = 0; i < kPairs; ++i) {
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    sockets.emplace_back(pair[1]);
    sockets.emplace_back(pair[0]);
    watches.push_back(loop().watch(pair[0]));
    scope.spawn(note_readable(*watches.back(), outcomes[i]));
  }
  settle();
  for (std::size_t i = 0; i < kPairs; ++i) {
    ASSERT_FALSE(outcomes[i]);
    ASSERT_EQ(::send(sockets[2 * i].get(), "x", 1, MSG_NOSIGNAL), 1);
  }
  settle();
  for (std::size_t i = 0; i < kPairs; ++i) ASSERT_EQ(outcomes[i], true) << i;
}

TEST_P(FdWatchTest, ABadDescriptorGivesACancelledWatch) {
  const auto watch = loop().watch(1 << 19);
  EXPECT_FALSE(run(wait_readable(*watch)));
  EXPECT_TRUE(watch->cancelled());
  EXPECT_FALSE(run(wait_writable(*watch)));
}

TEST_P(FdWatchTest, ARegularFileDoesNotHang) {
  const UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  const auto watch = loop().watch(file.get());
  (void)run(wait_readable(*watch));  // returns: epoll refuses it, io_uring reports it as ready
}

}  // namespace
}  // namespace blockmig

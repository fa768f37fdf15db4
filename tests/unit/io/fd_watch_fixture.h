// SPDX-License-Identifier: Apache-2.0
// A pair of connected sockets and each kind of loop, for tests of FdWatch.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/io/loops.h"

namespace blockmig {

class FdWatchTest : public LoopTest {
 protected:
  void SetUp() override {
    LoopTest::SetUp();
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    ours_ = UniqueFd(pair[0]);
    theirs_ = UniqueFd(pair[1]);
  }
  void send_byte() { ASSERT_EQ(::send(theirs_.get(), "x", 1, MSG_NOSIGNAL), 1); }
  /// How many bytes were there.
  long drain() {
    std::array<char, 4096> bytes;
    long total = 0;
    for (;;) {
      const ssize_t got = ::recv(ours_.get(), bytes.data(), bytes.size(), 0);
      if (got <= 0) return total;
      total += got;
    }
  }
  void fill() {
    const std::vector<char> bytes(64 * 1024);
    while (::send(ours_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0) {
    }
    ASSERT_EQ(errno, EAGAIN);
  }

  UniqueFd ours_;
  UniqueFd theirs_;
};

inline Task<bool> wait_readable(FdWatch& watch) {
  const bool alive = co_await watch.readable();
  co_return alive;
}

inline Task<bool> wait_writable(FdWatch& watch) {
  const bool alive = co_await watch.writable();
  co_return alive;
}

inline Task<void> note_readable(FdWatch& watch, std::optional<bool>& outcome) {
  const bool alive = co_await watch.readable();
  outcome = alive;
}

inline Task<void> note_writable(FdWatch& watch, std::optional<bool>& outcome) {
  const bool alive = co_await watch.writable();
  outcome = alive;
}

}  // namespace blockmig

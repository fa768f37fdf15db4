// SPDX-License-Identifier: Apache-2.0
// Stream::readable(), for the streams that work in place.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <optional>

#include "tests/unit/io/stream_fixture.h"

namespace blockmig {
namespace {

Task<void> note_readable(Stream& stream, std::optional<Status>& outcome) {
  const Status waited = co_await stream.readable();
  outcome = waited;
}

class StreamReadableTest : public LoopTest {
 protected:
  StreamPair sockets() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    auto first = adopt_socket(loop(), pair[0]);
    auto second = adopt_socket(loop(), pair[1]);
    EXPECT_TRUE(first && second);
    return {std::move(*first), std::move(*second)};
  }
  /// What `event` brings to who waits at `stream`.
  template <typename Event>
  std::optional<Status> wait_for(Stream& stream, Event event) {
    std::optional<Status> outcome;
    TaskScope scope;
    scope.spawn(note_readable(stream, outcome));
    settle();
    EXPECT_FALSE(outcome) << "nothing has happened yet";
    event();
    settle();
    if (!outcome) stream.shutdown();  // the test has failed, and must end
    settle();
    return outcome;
  }
  bool has_ended(Stream& stream) {
    bool ended = false;
    std::byte into[10];
    EXPECT_EQ(*stream.try_read(into, &ended), 0u);
    return ended;
  }
  void expect_bytes_and_the_end(StreamPair pair) {
    Stream& a = *pair.first;
    const Bytes bytes(3);
    const ConstBytes parts[] = {bytes};
    for (int i = 0; i < 3; ++i) {
      const auto came = wait_for(a, [&] { EXPECT_EQ(pair.second->try_write(parts), 3u); });
      ASSERT_TRUE(came && came->ok());
      bool ended = false;
      std::byte into[10];
      EXPECT_EQ(*a.try_read(into, &ended), 3u);
    }
    const auto left = wait_for(a, [&] { pair.second->shutdown(); });
    ASSERT_TRUE(left);
    EXPECT_TRUE(has_ended(a));
  }
  void expect_own_shutdown(StreamPair pair) {
    Stream& a = *pair.first;
    const auto woken = wait_for(a, [&] { a.shutdown(); });
    ASSERT_TRUE(woken);
    EXPECT_TRUE(has_ended(a));
  }
};
INSTANTIATE_TEST_SUITE_P(Loops, StreamReadableTest, all_loops(), loop_name);

TEST_P(StreamReadableTest, WaitsForBytesAndForTheEnd) {
  expect_bytes_and_the_end(sockets());
  expect_bytes_and_the_end(make_pipe(loop()));
}

TEST_P(StreamReadableTest, EndsWithAShutdown) {
  expect_own_shutdown(sockets());
  expect_own_shutdown(make_pipe(loop()));
}

TEST_P(StreamReadableTest, EndsWhereTheConnectionIsHandedOver) {
  const StreamPair pair = sockets();
  const auto woken = wait_for(*pair.first, [&] { pair.first->end_reading(); });
  ASSERT_TRUE(woken && !woken->ok());
  EXPECT_EQ(woken->error().code(), ErrorCode::kCancelled);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <thread>
#include <vector>

#include "blockmig/io/gather.h"
#include "tests/unit/io/stream_fixture.h"

// What only sockets promise; what every stream promises is tested in stream_test.cc.

namespace blockmig {
namespace {

class SocketStreamTest : public LoopTest {};
INSTANTIATE_TEST_SUITE_P(Loops, SocketStreamTest, all_loops(), loop_name);

TEST_P(SocketStreamTest, DestroyingItOutsideTheLoopEndsThePeerAtOnce) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  auto stream = adopt_socket(loop(), pair[0]);
  ASSERT_TRUE(stream);
  Bytes into(10);
  std::optional<std::size_t> got;
  TaskScope scope;
  scope.spawn(note_read(**stream, into, got));
  settle();
  (*stream)->shutdown();
  settle();
  stream->reset();
  char byte;
  EXPECT_EQ(::recv(pair[1], &byte, 1, 0), 0);
  ::close(pair[1]);
}

TEST_P(SocketStreamTest, ReadsWhatAThreadSendsByteByByte_Trap20) {
  constexpr int kBytes = 3000;
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  auto stream = adopt_socket(loop(), pair[0]);
  ASSERT_TRUE(stream);
  std::thread sender([&pair] {
    Random random(1);
    for (int i = 0; i < kBytes; ++i) {
      const auto byte = static_cast<std::byte>(i);
      ASSERT_EQ(::send(pair[1], &byte, 1, MSG_NOSIGNAL), 1);
      if (random.chance(1, 50)) std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
  });
  Bytes into(kBytes);
  EXPECT_TRUE(run(read_exactly(**stream, into)));
  sender.join();
  for (int i = 0; i < kBytes; ++i) {
    ASSERT_EQ(into[static_cast<std::size_t>(i)], static_cast<std::byte>(i));
  }
  ::close(pair[1]);
}

TEST_P(SocketStreamTest, AdoptsOnlyConnectedStreamSockets) {
  const auto code_of = [this](int fd) {
    const auto adopted = adopt_socket(loop(), fd);
    return adopted ? std::nullopt : std::optional(adopted.error().code());
  };
  EXPECT_TRUE(code_of(::open("/dev/null", O_RDWR | O_CLOEXEC)));
  EXPECT_EQ(code_of(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)), ErrorCode::kInvalid);
  EXPECT_EQ(code_of(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), ErrorCode::kDisconnected);
  const int fd = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  EXPECT_TRUE(code_of(fd));
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "the descriptor of a failed call is closed";
}

TEST(Gather, GivesEveryByteOnceInOrder) {
  const Bytes bytes = random_bytes(10'000, 9);
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    Random random(seed);
    const std::vector<ConstBytes> parts = cut(bytes, seed, 200);
    Gather gather(parts);
    Bytes sent;
    while (!gather.finished()) {
      std::vector<iovec> entries(random.between(1, 20));
      const std::size_t count = gather.fill(entries);
      ASSERT_GT(count, 0u);
      Bytes offered;
      for (std::size_t i = 0; i < count; ++i) {
        const auto* first = static_cast<const std::byte*>(entries[i].iov_base);
        ASSERT_GT(entries[i].iov_len, 0u);
        offered.insert(offered.end(), first, first + entries[i].iov_len);
      }
      const std::size_t taken = random.between(1, offered.size());
      sent.insert(sent.end(), offered.begin(),
                  offered.begin() + static_cast<std::ptrdiff_t>(taken));
      gather.advance(taken);
    }
    ASSERT_EQ(sent, bytes) << "seed " << seed;
  }
}

}  // namespace
}  // namespace blockmig

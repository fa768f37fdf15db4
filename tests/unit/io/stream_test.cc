// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/stream.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <set>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/unit/io/stream_fixture.h"

namespace blockmig {
namespace {

enum class Kind { kUnix, kTcp4, kTcp6, kSocketPair, kPipe, kPipeOfOneByteSegments };

using Parameter = std::tuple<TestLoop, Kind>;

std::string kind_name(Kind kind) {
  switch (kind) {
    case Kind::kUnix:
      return "unix";
    case Kind::kTcp4:
      return "tcp4";
    case Kind::kTcp6:
      return "tcp6";
    case Kind::kSocketPair:
      return "socketpair";
    case Kind::kPipe:
      return "pipe";
    case Kind::kPipeOfOneByteSegments:
      return "pipe_of_one_byte_segments";
  }
  return "";
}

std::string parameter_name(const testing::TestParamInfo<Parameter>& info) {
  const testing::TestParamInfo<TestLoop> loop_info(std::get<0>(info.param), info.index);
  return loop_name(loop_info) + "_" + kind_name(std::get<1>(info.param));
}

class StreamTest : public testing::TestWithParam<Parameter> {
 protected:
  void SetUp() override {
    auto made = make_test_loop(std::get<0>(GetParam()));
    if (!made) GTEST_SKIP() << made.error().message();
    loop_ = std::move(*made);
    auto pair = make_pair();
    if (!pair && std::get<1>(GetParam()) == Kind::kTcp6) GTEST_SKIP() << pair.error().message();
    ASSERT_TRUE(pair) << pair.error().message();
    std::tie(a_, b_) = std::move(*pair);
  }
  void TearDown() override {
    a_.reset();
    b_.reset();
    loop_.reset();
  }

  Result<StreamPair> make_pair() {
    switch (std::get<1>(GetParam())) {
      case Kind::kUnix:
        return connected_pair("unix:" + folder_ / "s");
      case Kind::kTcp4:
        return connected_pair("tcp:127.0.0.1:0");
      case Kind::kTcp6:
        return connected_pair("tcp:[::1]:0");
      case Kind::kSocketPair:
        return adopted_pair();
      case Kind::kPipe:
        return make_pipe(*loop_);
      case Kind::kPipeOfOneByteSegments: {
        PipeOptions options;
        options.capacity_bytes = 7;
        options.segment_bytes = 1;
        return make_pipe(*loop_, options);
      }
    }
    return Error(ErrorCode::kInvalid);
  }
  Result<StreamPair> connected_pair(const std::string& text) {
    auto listener = listen_on(*loop_, *SocketAddress::parse(text));
    if (!listener) return listener.error();
    return run_task(*loop_, connect_pair(*loop_, **listener));
  }
  Result<StreamPair> adopted_pair() {
    int pair[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    auto first = adopt_socket(*loop_, pair[0]);
    auto second = adopt_socket(*loop_, pair[1]);
    if (!first) return first.error();
    if (!second) return second.error();
    return StreamPair(std::move(*first), std::move(*second));
  }
  template <typename T>
  T run(Task<T> task) {
    return run_task(*loop_, std::move(task));
  }
  void settle() { settle_loop(*loop_); }
  /// Enough to fill what is between the two ends and make a writer wait.
  std::size_t bulk_bytes() const {
    const Kind kind = std::get<1>(GetParam());
    return kind == Kind::kPipeOfOneByteSegments ? 20'000 : 12u << 20;
  }

  TemporaryFolder folder_;
  std::unique_ptr<IoLoop> loop_;
  std::unique_ptr<Stream> a_;
  std::unique_ptr<Stream> b_;
};
INSTANTIATE_TEST_SUITE_P(Streams, StreamTest,
                         testing::Combine(all_loops(),
                                          testing::Values(Kind::kUnix, Kind::kTcp4, Kind::kTcp6,
                                                          Kind::kSocketPair, Kind::kPipe,
                                                          Kind::kPipeOfOneByteSegments)),
                         parameter_name);

Task<void> send_cut(Stream& stream, ConstBytes bytes, std::uint64_t seed, Status& outcome) {
  const std::vector<ConstBytes> parts = cut(bytes, seed, bytes.size() / 3000 + 2);
  outcome = co_await stream.write_all(parts);
}

Task<void> receive(Stream& stream, MutableBytes into, std::uint64_t seed, Status& outcome) {
  Random random(seed);
  while (!into.empty()) {
    const std::size_t limit = random.chance(1, 2) ? 100 : 300'000;
    const std::size_t size = std::min<std::size_t>(into.size(), random.between(1, limit));
    const MutableBytes part = into.first(size);
    outcome = co_await read_exactly(stream, part);
    if (!outcome) co_return;
    into = into.subspan(size);
  }
}

Task<void> both_ways(Stream& a, Stream& b, std::size_t size) {
  const Bytes from_a = random_bytes(size, 1);
  const Bytes from_b = random_bytes(size, 2);
  Bytes at_a(size);
  Bytes at_b(size);
  Status outcomes[4];
  TaskScope scope;
  scope.spawn(send_cut(a, from_a, 3, outcomes[0]));
  scope.spawn(send_cut(b, from_b, 4, outcomes[1]));
  scope.spawn(receive(a, at_a, 5, outcomes[2]));
  scope.spawn(receive(b, at_b, 6, outcomes[3]));
  co_await scope.join();
  for (const Status& outcome : outcomes) EXPECT_TRUE(outcome.ok());
  EXPECT_EQ(at_a, from_b);
  EXPECT_EQ(at_b, from_a);
}

TEST_P(StreamTest, CarriesManyPartsBothWaysAtOnce) { run(both_ways(*a_, *b_, bulk_bytes())); }

Task<int> ping_pong(Stream& a, Stream& b, int rounds) {
  Bytes byte(1);
  for (int i = 0; i < rounds; ++i) {
    Bytes sent(1, static_cast<std::byte>(i));
    const Status out = co_await write_bytes(a, sent);
    const Status seen = co_await read_exactly(b, byte);
    const Status back = co_await write_bytes(b, byte);
    const Status home = co_await read_exactly(a, byte);
    if (!out || !seen || !back || !home || byte != sent) co_return i;
  }
  co_return rounds;
}

TEST_P(StreamTest, CarriesSingleBytesBackAndForth) {
  EXPECT_EQ(run(ping_pong(*a_, *b_, 500)), 500);
}

Task<void> note_read(Stream& stream, Event& done) {
  Bytes one(1);
  const auto got = co_await read_once(stream, one);
  if (got.ok() && *got == 1) done.set();
}

/// The whole process stands still after the peer has answered, and for longer than anybody waits.
Task<void> answer_and_pause(Stream& peer, EventLoop& loop) {
  co_await sleep_for(loop, std::chrono::milliseconds(10));
  const Bytes one(1);
  const Status written = co_await write_bytes(peer, one);
  EXPECT_TRUE(written.ok());
  std::this_thread::sleep_for(std::chrono::milliseconds(150));
}

Task<void> wait_over_a_pause(Stream& stream, Stream& peer, EventLoop& loop) {
  TaskScope scope;
  Event done(loop);
  scope.spawn(note_read(stream, done));
  scope.spawn(answer_and_pause(peer, loop));
  const TimePoint deadline = loop.now() + std::chrono::milliseconds(100);
  const bool in_time = co_await done.wait_until(deadline);
  EXPECT_TRUE(in_time);
  co_await scope.join();
}

TEST_P(StreamTest, AnAnswerOfBeforeAPauseIsNotLate) { run(wait_over_a_pause(*a_, *b_, *loop_)); }

TEST_P(StreamTest, WritingNothingSucceeds) {
  EXPECT_TRUE(run(write_bytes(*a_, {})));
  EXPECT_TRUE(run(a_->write_all({})));
}

TEST_P(StreamTest, ReadIntoNothingIsNotTheEnd) {
  EXPECT_EQ(*run(read_once(*a_, {})), 0u);
  bool ended = false;
  EXPECT_EQ(*a_->try_read({}, &ended), 0u);
  EXPECT_FALSE(ended);
}

TEST_P(StreamTest, TryReadDoesNotWait) {
  Bytes into(10);
  bool ended = false;
  EXPECT_EQ(*b_->try_read(into, &ended), 0u);
  EXPECT_FALSE(ended);
  ASSERT_TRUE(run(write_bytes(*a_, random_bytes(3, 1))));
  std::size_t got = 0;
  while (got < 3) {
    settle();
    const auto more = b_->try_read(into, &ended);
    ASSERT_TRUE(more);
    got += *more;
  }
  EXPECT_EQ(got, 3u);
  EXPECT_FALSE(ended);
  EXPECT_EQ(*b_->try_read(into, &ended), 0u);
  a_.reset();
  settle();
  EXPECT_EQ(*b_->try_read(into, &ended), 0u);
  EXPECT_TRUE(ended);
}

TEST_P(StreamTest, TheEndComesAfterEverythingThatWasWritten) {
  const Bytes sent = random_bytes(5, 1);
  ASSERT_TRUE(run(write_bytes(*a_, sent)));
  a_.reset();
  Bytes into(5);
  ASSERT_TRUE(run(read_exactly(*b_, into)));
  EXPECT_EQ(into, sent);
  EXPECT_EQ(*run(read_once(*b_, into)), 0u);
  const Status more = run(read_exactly(*b_, into));
  ASSERT_FALSE(more);
  EXPECT_EQ(more.error().code(), ErrorCode::kDisconnected);
}

TEST_P(StreamTest, AnEndInTheMiddleOfAMessageIsDisconnected) {
  ASSERT_TRUE(run(write_bytes(*a_, random_bytes(3, 1))));
  a_.reset();
  Bytes into(5);
  const Status read = run(read_exactly(*b_, into));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code(), ErrorCode::kDisconnected);
}

TEST_P(StreamTest, WritingToAPeerThatLeftIsDisconnectedAndNoSignal) {
  b_.reset();
  const Bytes bytes = random_bytes(bulk_bytes(), 1);
  const Status written = run(write_bytes(*a_, bytes));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code(), ErrorCode::kDisconnected) << written.error().message();
}

Task<void> note_status(Stream& stream, ConstBytes bytes, std::optional<ErrorCode>& failure) {
  const Status written = co_await write_bytes(stream, bytes);
  if (!written) failure = written.error().code();
}

TEST_P(StreamTest, ShutdownWakesTheReaderAndTheWriter) {
  const Bytes bytes = random_bytes(bulk_bytes(), 1);
  Bytes into(10);
  std::optional<std::size_t> got;
  std::optional<ErrorCode> failure;
  TaskScope scope;
  scope.spawn(note_read(*a_, into, got));
  scope.spawn(note_status(*a_, bytes, failure));
  settle();
  EXPECT_FALSE(got);
  EXPECT_FALSE(failure);
  a_->shutdown();
  a_->shutdown();
  settle();
  EXPECT_EQ(got, 0u);
  EXPECT_EQ(failure, ErrorCode::kDisconnected);
  EXPECT_EQ(*run(read_once(*a_, into)), 0u);
  bool ended = false;
  EXPECT_EQ(*a_->try_read(into, &ended), 0u);
  EXPECT_TRUE(ended);
  const Status later = run(write_bytes(*a_, into));
  ASSERT_FALSE(later);
  EXPECT_EQ(later.error().code(), ErrorCode::kDisconnected);
}

TEST_P(StreamTest, ShutdownEndsThePeerToo) {
  Bytes into(10);
  std::optional<std::size_t> got;
  TaskScope scope;
  scope.spawn(note_read(*b_, into, got));
  settle();
  a_->shutdown();
  settle();
  EXPECT_EQ(got, 0u);
}

TEST_P(StreamTest, HasAPeerName) {
  const std::string name = b_->peer_name();
  switch (std::get<1>(GetParam())) {
    case Kind::kUnix:
      EXPECT_EQ(name, "unix:" + folder_ / "s");
      break;
    case Kind::kTcp4:
      EXPECT_EQ(name.rfind("tcp:127.0.0.1:", 0), 0u) << name;
      break;
    case Kind::kTcp6:
      EXPECT_EQ(name.rfind("tcp:[::1]:", 0), 0u) << name;
      break;
    case Kind::kSocketPair:
      EXPECT_EQ(name, "unix:");
      break;
    case Kind::kPipe:
    case Kind::kPipeOfOneByteSegments:
      EXPECT_EQ(name, "pipe");
      break;
  }
}

TEST_P(StreamTest, EveryDescriptorIsClosedOnExec) {
  for (int fd = 3; fd < 1024; ++fd) {
    const int flags = ::fcntl(fd, F_GETFD);
    if (flags < 0) continue;
    char target[256] = "";
    (void)!::readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), target, sizeof target - 1);
    const std::string what(target);
    const bool ours = what.rfind("socket:", 0) == 0 || what.rfind("anon_inode:", 0) == 0;
    if (ours) {
      EXPECT_TRUE((flags & FD_CLOEXEC) != 0) << fd << " " << what;
    }
  }
}

struct SocketOption {
  int level;
  int name;
  int value;
};

/// Every TCP connection of the process has them; how many that were.
int expect_on_connections(std::span<const SocketOption> options) {
  int connections = 0;
  for (int fd = 3; fd < 1024; ++fd) {
    sockaddr_storage peer{};
    socklen_t length = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) continue;
    if (peer.ss_family != AF_INET && peer.ss_family != AF_INET6) continue;
    ++connections;
    for (const SocketOption& option : options) {
      int value = 0;
      length = sizeof value;
      EXPECT_EQ(::getsockopt(fd, option.level, option.name, &value, &length), 0);
      EXPECT_EQ(value, option.value) << "option " << option.name;
    }
  }
  return connections;
}

TEST_P(StreamTest, TcpIsTuned) {
  const Kind kind = std::get<1>(GetParam());
  if (kind != Kind::kTcp4 && kind != Kind::kTcp6) return;
  const auto options_of = [](int idle, int interval) {
    return std::vector<SocketOption>{{IPPROTO_TCP, TCP_NODELAY, 1},
                                     {SOL_SOCKET, SO_KEEPALIVE, 1},
                                     {IPPROTO_TCP, TCP_KEEPIDLE, idle},
                                     {IPPROTO_TCP, TCP_KEEPINTVL, interval},
                                     {IPPROTO_TCP, TCP_KEEPCNT, 3}};
  };
  EXPECT_EQ(expect_on_connections(options_of(30, 10)), 2);
  for (Stream* stream : {a_.get(), b_.get()}) stream->set_keepalive(std::chrono::seconds(7));
  EXPECT_EQ(expect_on_connections(options_of(7, 2)), 2);
  for (Stream* stream : {a_.get(), b_.get()}) stream->set_keepalive(std::chrono::milliseconds(900));
  EXPECT_EQ(expect_on_connections(options_of(1, 1)), 2);
}

TEST_P(StreamTest, WhatIsNoTcpTakesAKeepaliveTimeToo) {
  a_->set_keepalive(std::chrono::seconds(7));
  const std::string hello = "hello";
  const ConstBytes parts[] = {std::as_bytes(std::span(hello))};
  EXPECT_TRUE(run(a_->write_all(parts)).ok());
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The server on real loops and sockets: listeners, limits, client list, stop.
#include "nbdserver/server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "blockmig/io/cancel.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/io/unique_fd.h"
#include "fake_export.h"
#include "nbdserver/yield_to_loop.h"
#include "tests/unit/shared/temporary_folder.h"
#include "wire_bytes.h"

namespace blockmig::nbd {
namespace {

using namespace std::chrono_literals;

class ServerTest : public testing::TestWithParam<LoopKind> {
 protected:
  void SetUp() override {
    auto made = make_io_loop({.kind = GetParam()});
    if (!made.ok()) GTEST_SKIP() << made.error().message();
    loop_ = std::move(*made);
    disk_ = std::make_shared<FakeExport>("disk0", device_);
    directory_.exports_.push_back(disk_);
    start();
  }
  void TearDown() override {
    if (server_ != nullptr) stop();
    clients_.clear();
  }
  void start() { server_ = make_nbd_server(*loop_, directory_, limits_); }
  void stop(Duration grace = 100ms) {
    run_task(*loop_, server_->stop(grace));
    server_.reset();
  }
  SocketAddress unix_address() { return *SocketAddress::parse("unix:" + folder_ / "s.sock"); }
  Stream& connect(const SocketAddress& address) {
    auto stream = run_task(*loop_, connect_to(*loop_, address, 5s));
    EXPECT_TRUE(stream.ok());
    clients_.push_back(std::move(*stream));
    return *clients_.back();
  }
  void send(Stream& stream, const ByteVector& bytes) {
    const ConstBytes part(bytes);
    const auto sent = run_task(*loop_, stream.write_all(std::span<const ConstBytes>(&part, 1)));
    EXPECT_TRUE(sent.ok());
  }
  ByteVector receive(Stream& stream, std::size_t size) {
    ByteVector bytes(size);
    const auto got = run_task(*loop_, read_exactly(stream, bytes));
    EXPECT_TRUE(got.ok());
    return bytes;
  }
  /// True if the server closed without sending more.
  bool closed(Stream& stream) {
    ByteVector bytes(1);
    const auto got = run_task(*loop_, stream.read_some(bytes));
    return !got.ok() || *got == 0;
  }
  Stream& transmitting(const SocketAddress& address) {
    Stream& client = connect(address);
    EXPECT_EQ(receive(client, 18), greeting());
    send(client, join({client_flags(3), option(kOptExportName, Wire().text("disk0"))}));
    receive(client, 10);
    return client;
  }

  std::unique_ptr<IoLoop> loop_;
  TemporaryFolder folder_;
  MemoryDevice device_{"memory", 16 << 20};
  std::shared_ptr<FakeExport> disk_;
  FakeDirectory directory_;
  NbdServerLimits limits_;
  std::unique_ptr<NbdServer> server_;
  std::vector<std::unique_ptr<Stream>> clients_;
};

TEST_P(ServerTest, ServesOverUnixAndTcpListenersAtOnce) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  ASSERT_TRUE(server_->listen(*SocketAddress::parse("tcp:127.0.0.1:0")).ok());
  const auto addresses = server_->addresses();
  ASSERT_EQ(addresses.size(), 2u);
  EXPECT_NE(addresses[1].port, 0);
  Stream& by_unix = transmitting(addresses[0]);
  Stream& by_tcp = transmitting(addresses[1]);
  send(by_unix, request(0, kWrite, 1, 0, 100000, pattern(100000, 0x51)));
  EXPECT_EQ(receive(by_unix, 16), simple_reply(0, 1));
  send(by_tcp, request(0, kRead, 2, 0, 100000));
  EXPECT_EQ(receive(by_tcp, 100016), simple_reply(0, 2, pattern(100000, 0x51)));
}

TEST_P(ServerTest, NobodyIsServedOverANetworkByAnOversight) {
  NbdServerOptions options;
  NbdSecurityOptions careful_ones;
  careful_ones.open_to_networks = false;
  options.security = *make_nbd_security(careful_ones);
  const auto careful = make_nbd_server(*loop_, directory_, options);
  EXPECT_TRUE(careful->listen(*SocketAddress::parse("tcp:127.0.0.1:0")).ok());
  const Status refused = careful->listen(*SocketAddress::parse("tcp::0"));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(careful->addresses().size(), 1u);
  run_task(*loop_, careful->stop(100ms));
}

TEST_P(ServerTest, AnAddressInUseIsAnErrorThatNamesIt) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  const Status again = server_->listen(unix_address());
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code(), ErrorCode::kBusy);
  EXPECT_NE(again.error().message().find("s.sock"), std::string::npos);
}

TEST_P(ServerTest, ListsItsClientsAndCutsOne) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  Stream& first = transmitting(unix_address());
  Stream& second = transmitting(unix_address());
  send(first, request(0, kWrite, 1, 0, 512, pattern(512, 1)));
  receive(first, 16);
  send(second, request(0, kRead, 1, 0, 4096));
  receive(second, 16 + 4096);
  const auto clients = server_->clients();
  ASSERT_EQ(clients.size(), 2u);
  EXPECT_NE(clients[0].id, clients[1].id);
  EXPECT_EQ(clients[0].export_name, "disk0");
  EXPECT_EQ(clients[0].bytes_written, 512u);
  EXPECT_EQ(clients[1].bytes_read, 4096u);
  EXPECT_EQ(clients[1].requests, 1u);
  EXPECT_EQ(server_->disconnect(999).error().code(), ErrorCode::kNotFound);
  ASSERT_TRUE(server_->disconnect(clients[0].id).ok());
  EXPECT_TRUE(closed(first));
  run_task(*loop_, sleep_for(*loop_, 20ms));
  EXPECT_EQ(server_->clients().size(), 1u);
  send(second, request(0, kFlush, 9, 0, 0));
  EXPECT_EQ(receive(second, 16), simple_reply(0, 9));
}

TEST_P(ServerTest, ConnectionsAboveTheLimitAreClosedAndRoomIsReused) {
  limits_.max_connections = 2;
  start();
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  Stream& first = transmitting(unix_address());
  transmitting(unix_address());
  Stream& third = connect(unix_address());
  EXPECT_TRUE(closed(third));
  send(first, request(0, kDisc, 1, 0, 0));
  EXPECT_TRUE(closed(first));
  run_task(*loop_, sleep_for(*loop_, 20ms));
  transmitting(unix_address());
}

/// The most connections that were accepted between two turns of another task on the loop.
Task<void> watch_accepts(EventLoop& loop, NbdServer& server, std::uint64_t all,
                         std::uint64_t* most) {
  std::uint64_t before = 0;
  while (before < all) {
    co_await YieldToLoop(loop);
    const std::uint64_t now = server.stats().accepted;
    *most = std::max(*most, now - before);
    before = now;
  }
}

TEST_P(ServerTest, OthersRunWhileAQueueOfConnectionsIsAccepted) {
  constexpr std::uint64_t kMany = 100;
  const SocketAddress address = unix_address();
  ASSERT_TRUE(server_->listen(address).ok());
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  address.path.copy(name.sun_path, sizeof name.sun_path - 1);
  std::vector<UniqueFd> queued;
  for (std::uint64_t i = 0; i < kMany; ++i) {
    queued.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(queued.back().get(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  }
  std::uint64_t most = 0;
  run_task(*loop_, watch_accepts(*loop_, *server_, kMany, &most));
  EXPECT_LE(most, 2u);
}

TEST_P(ServerTest, StopClosesIdleClientsAndListeners) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  Stream& client = transmitting(unix_address());
  stop(60s);
  EXPECT_TRUE(closed(client));
  const auto refused = run_task(*loop_, connect_to(*loop_, unix_address(), 1s));
  EXPECT_FALSE(refused.ok());
}

TEST_P(ServerTest, RequestsOnTheirWayWhenItStopsGetEshutdown) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  Stream& client = transmitting(unix_address());
  TaskScope scope;
  // Stopping begins on the spot, before the loop has looked at the socket again.
  scope.spawn(server_->stop(60s));
  send(client, request(0, kRead, 7, 0, 512));
  EXPECT_EQ(receive(client, 16), simple_reply(kESHUTDOWN, 7));
  EXPECT_TRUE(closed(client));
  while (scope.running() != 0) run_task(*loop_, sleep_for(*loop_, 1ms));
  server_.reset();
}

TEST_P(ServerTest, StopCutsAfterTheGraceWhoDoesNotLeave) {
  limits_.handshake_timeout = 1h;
  start();
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  Stream& negotiating = connect(unix_address());
  EXPECT_EQ(receive(negotiating, 18), greeting());
  Stream& deaf = transmitting(unix_address());
  for (std::uint64_t i = 0; i < 4; ++i) send(deaf, request(0, kRead, i, 0, 8 << 20));
  run_task(*loop_, sleep_for(*loop_, 20ms));
  stop(50ms);
  EXPECT_TRUE(closed(negotiating));
}

TEST_P(ServerTest, AfterStopNothingIsServed) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  run_task(*loop_, server_->stop(0ms));
  EXPECT_EQ(server_->listen(unix_address()).error().code(), ErrorCode::kShutdown);
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  auto ours = adopt_socket(*loop_, pair[0]);
  auto theirs = adopt_socket(*loop_, pair[1]);
  run_task(*loop_, server_->serve_stream(std::move(*ours)));
  EXPECT_TRUE(closed(**theirs));
}

TEST_P(ServerTest, ServesAnAdoptedStreamUntilItsClientLeaves) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
  auto ours = adopt_socket(*loop_, pair[0]);
  auto theirs = adopt_socket(*loop_, pair[1]);
  TaskScope scope;
  scope.spawn(server_->serve_stream(std::move(*ours)));
  EXPECT_EQ(receive(**theirs, 18), greeting());
  EXPECT_EQ(server_->clients().size(), 1u);
  send(**theirs, join({client_flags(3), option(kOptAbort)}));
  EXPECT_EQ(receive(**theirs, 20), option_reply(kOptAbort, kRepAck));
  EXPECT_TRUE(closed(**theirs));
  run_task(*loop_, sleep_for(*loop_, 20ms));
  EXPECT_EQ(scope.running(), 0u);
  EXPECT_TRUE(server_->clients().empty());
}

TEST_P(ServerTest, ManyClientsComeAndGo) {
  ASSERT_TRUE(server_->listen(unix_address()).ok());
  for (int round = 0; round < 5; ++round) {
    std::vector<Stream*> open;
    for (int i = 0; i < 40; ++i) open.push_back(&transmitting(unix_address()));
    for (Stream* each : open) send(*each, request(0, kFlush, 1, 0, 0));
    for (Stream* each : open) EXPECT_EQ(receive(*each, 16), simple_reply(0, 1));
    clients_.clear();
    run_task(*loop_, sleep_for(*loop_, 20ms));
    EXPECT_TRUE(server_->clients().empty());
  }
}

INSTANTIATE_TEST_SUITE_P(Loops, ServerTest, testing::Values(LoopKind::kUring, LoopKind::kPortable),
                         [](const auto& each) {
                           return each.param == LoopKind::kUring ? "Uring" : "Portable";
                         });

}  // namespace
}  // namespace blockmig::nbd

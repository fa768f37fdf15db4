// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

#include "blockmig/io/raw_address.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/io/stream_fixture.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class ListenerTest : public LoopTest {
 protected:
  SocketAddress unix_address(const std::string& name) {
    SocketAddress address;
    address.path = folder_ / name;
    return address;
  }
  static SocketAddress local_port(std::uint16_t port) {
    SocketAddress address;
    address.family = SocketAddress::Family::kTcp;
    address.host = "127.0.0.1";
    address.port = port;
    return address;
  }
  std::optional<Error> connect_error(const SocketAddress& address,
                                     Duration timeout = std::chrono::seconds(10)) {
    const auto connected = run(connect_to(loop(), address, timeout));
    return connected ? std::nullopt : std::optional(connected.error());
  }
  bool exists(const SocketAddress& address) { return ::access(address.path.c_str(), F_OK) == 0; }

  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Loops, ListenerTest, all_loops(), loop_name);

/// A listening socket that is nobody's Listener; `backlog` connections fit.
UniqueFd raw_listener(const RawAddress& raw, int backlog) {
  UniqueFd socket(::socket(raw.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(socket.get(), raw.get(), raw.length), 0);
  EXPECT_EQ(::listen(socket.get(), backlog), 0);
  return socket;
}

UniqueFd raw_connection(const RawAddress& raw) {
  UniqueFd socket(::socket(raw.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  (void)::connect(socket.get(), raw.get(), raw.length);
  return socket;
}

TEST_P(ListenerTest, ReplacesAStaleSocketFile) {
  const SocketAddress address = unix_address("stale");
  raw_listener(*raw_unix_address(address.path), 1).reset();
  ASSERT_TRUE(exists(address));
  const auto listener = listen_on(loop(), address);
  ASSERT_TRUE(listener) << listener.error().message();
  EXPECT_TRUE(run(connect_pair(loop(), **listener)));
}

TEST_P(ListenerTest, LeavesALiveSocketAlone) {
  const SocketAddress address = unix_address("live");
  const auto first = listen_on(loop(), address);
  ASSERT_TRUE(first);
  const auto second = listen_on(loop(), address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_NE(second.error().message().find(address.path), std::string::npos);
  Result<std::unique_ptr<Stream>> probe = Error(ErrorCode::kIo);
  TaskScope scope;
  scope.spawn(accept_into(**first, probe));  // the second one's probe
  settle();
  EXPECT_TRUE(run(connect_pair(loop(), **first)));
}

TEST_P(ListenerTest, AFullBacklogIsLiveToo) {
  const SocketAddress address = unix_address("full");
  const RawAddress raw = *raw_unix_address(address.path);
  const UniqueFd listener = raw_listener(raw, 0);
  const UniqueFd waiting = raw_connection(raw);
  const UniqueFd refused = raw_connection(raw);
  const auto second = listen_on(loop(), address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_TRUE(exists(address));
}

TEST_P(ListenerTest, NeverRemovesAFileThatIsNoSocket) {
  const SocketAddress address = unix_address("file");
  const UniqueFd file(::open(address.path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  ASSERT_EQ(::write(file.get(), "x", 1), 1);
  const auto listener = listen_on(loop(), address);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code(), ErrorCode::kBusy);
  struct stat status {};
  ASSERT_EQ(::stat(address.path.c_str(), &status), 0);
  EXPECT_EQ(status.st_size, 1);
}

TEST_P(ListenerTest, SaysThatAPathIsTooLongOrItsFolderMissing) {
  SocketAddress address;
  address.path = folder_ / std::string(120, 'x');
  const auto too_long = listen_on(loop(), address);
  ASSERT_FALSE(too_long);
  EXPECT_EQ(too_long.error().code(), ErrorCode::kInvalid);
  EXPECT_NE(too_long.error().message().find("at most 107"), std::string::npos);
  address.path = folder_ / "missing/s";
  const auto missing = listen_on(loop(), address);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message().find(address.path), std::string::npos);
}

TEST_P(ListenerTest, CloseRemovesTheSocketFile) {
  const SocketAddress address = unix_address("s");
  {
    const auto listener = listen_on(loop(), address);
    ASSERT_TRUE(listener);
    EXPECT_TRUE(exists(address));
    (*listener)->close();
    EXPECT_FALSE(exists(address));
  }
  const auto by_destruction = listen_on(loop(), address);
  ASSERT_TRUE(by_destruction);
}

TEST_P(ListenerTest, CloseLeavesTheSocketFileOfASuccessor) {
  const SocketAddress address = unix_address("s");
  const SocketAddress other = unix_address("other");
  const auto listener = listen_on(loop(), address);
  const auto successor = listen_on(loop(), other);
  ASSERT_TRUE(listener && successor);
  ASSERT_EQ(::rename(other.path.c_str(), address.path.c_str()), 0);
  (*listener)->close();
  EXPECT_TRUE(exists(address));
  EXPECT_FALSE(connect_error(address));
}

TEST_P(ListenerTest, CloseWakesAcceptAndEndsLaterOnes) {
  for (const SocketAddress& address : {unix_address("s"), local_port(0)}) {
    const auto listener = listen_on(loop(), address);
    ASSERT_TRUE(listener);
    Result<std::unique_ptr<Stream>> accepted = Error(ErrorCode::kIo);
    TaskScope scope;
    scope.spawn(accept_into(**listener, accepted));
    settle();
    EXPECT_EQ(scope.running(), 1u);
    (*listener)->close();
    (*listener)->close();
    settle();
    ASSERT_EQ(scope.running(), 0u);
    ASSERT_FALSE(accepted);
    EXPECT_EQ(accepted.error().code(), ErrorCode::kCancelled);
    const auto later = run((*listener)->accept());
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().code(), ErrorCode::kCancelled);
    const auto refused = connect_error((*listener)->address());
    ASSERT_TRUE(refused);
  }
}

TEST_P(ListenerTest, APortInUseIsBusyAndFreeAtOnceAfterClose) {
  const auto first = listen_on(loop(), local_port(0));
  ASSERT_TRUE(first);
  const SocketAddress address = (*first)->address();
  EXPECT_NE(address.port, 0);
  EXPECT_TRUE(run(connect_pair(loop(), **first)));
  const auto second = listen_on(loop(), address);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::kBusy);
  EXPECT_NE(second.error().message().find(address.to_string()), std::string::npos);
  (*first)->close();
  const auto third = listen_on(loop(), address);
  ASSERT_TRUE(third) << third.error().message();
  EXPECT_TRUE(run(connect_pair(loop(), **third)));
}

TEST_P(ListenerTest, AnyAddressTakesIpv4) {
  SocketAddress any;
  any.family = SocketAddress::Family::kTcp;
  const auto listener = listen_on(loop(), any);
  ASSERT_TRUE(listener) << listener.error().message();
  Result<std::unique_ptr<Stream>> accepted = Error(ErrorCode::kIo);
  TaskScope scope;
  scope.spawn(accept_into(**listener, accepted));
  EXPECT_FALSE(connect_error(local_port((*listener)->address().port)));
  settle();
  ASSERT_TRUE(accepted);
  EXPECT_EQ((*accepted)->peer_name().rfind("tcp:127.0.0.1:", 0), 0u) << (*accepted)->peer_name();
}

TEST_P(ListenerTest, QueuedClientsAreAllAccepted) {
  const SocketAddress address = unix_address("s");
  const auto listener = listen_on(loop(), address);
  ASSERT_TRUE(listener);
  const RawAddress raw = *raw_unix_address(address.path);
  for (int round = 0; round < 3; ++round) {
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 20; ++i) clients.push_back(raw_connection(raw));
    for (int i = 0; i < 20; ++i) ASSERT_TRUE(run((*listener)->accept()));
  }
}

TEST_P(ListenerTest, OutOfDescriptorsAcceptWaitsForOne) {
  const SocketAddress address = unix_address("s");
  const auto listener = listen_on(loop(), address);
  ASSERT_TRUE(listener);
  const UniqueFd client = raw_connection(*raw_unix_address(address.path));
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  const rlimit none{3, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  Result<std::unique_ptr<Stream>> accepted = Error(ErrorCode::kIo);
  TaskScope scope;
  scope.spawn(accept_into(**listener, accepted));
  settle();
  EXPECT_EQ(scope.running(), 1u);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  run(join_all(scope));
  EXPECT_TRUE(accepted);
}

TEST_P(ListenerTest, ConnectNamesWhatIsWrong) {
  const auto missing = connect_error(unix_address("missing"));
  ASSERT_TRUE(missing);
  EXPECT_EQ(missing->code(), ErrorCode::kNotFound);
  EXPECT_NE(missing->message().find("connect to unix:"), std::string::npos);

  const SocketAddress stale = unix_address("stale");
  raw_listener(*raw_unix_address(stale.path), 1).reset();
  const auto refused = connect_error(stale);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->code(), ErrorCode::kDisconnected);
  EXPECT_NE(refused->message().find(stale.path), std::string::npos);

  const auto listener = listen_on(loop(), local_port(0));
  ASSERT_TRUE(listener);
  const SocketAddress closed = (*listener)->address();
  (*listener)->close();
  const auto no_port = connect_error(closed);
  ASSERT_TRUE(no_port);
  EXPECT_EQ(no_port->code(), ErrorCode::kDisconnected);
  EXPECT_NE(no_port->message().find(closed.to_string()), std::string::npos);

  SocketAddress too_long;
  too_long.path = std::string(200, 'x');
  const auto invalid = connect_error(too_long);
  ASSERT_TRUE(invalid);
  EXPECT_EQ(invalid->code(), ErrorCode::kInvalid);
}

TEST_P(ListenerTest, ConnectResolvesNames) {
  const auto listener = listen_on(loop(), local_port(0));
  ASSERT_TRUE(listener);
  SocketAddress by_name = (*listener)->address();
  by_name.host = "localhost";
  EXPECT_FALSE(connect_error(by_name));
  by_name.host = "no-such-host.invalid";
  const auto unknown = connect_error(by_name);
  ASSERT_TRUE(unknown);
  EXPECT_NE(unknown->message().find("no-such-host.invalid"), std::string::npos);
}

TEST_P(ListenerTest, ConnectToAFullUnixBacklogTimesOut) {
  const SocketAddress address = unix_address("full");
  const RawAddress raw = *raw_unix_address(address.path);
  const UniqueFd listener = raw_listener(raw, 0);
  const UniqueFd waiting = raw_connection(raw);
  const auto failure = connect_error(address, milliseconds(30));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code(), ErrorCode::kTimedOut);
  EXPECT_NE(failure->message().find(address.path), std::string::npos);
}

TEST_P(ListenerTest, ConnectWaitsForRoomInAFullUnixBacklog) {
  const SocketAddress address = unix_address("full");
  const RawAddress raw = *raw_unix_address(address.path);
  const UniqueFd listener = raw_listener(raw, 0);
  const UniqueFd waiting = raw_connection(raw);
  std::thread acceptor([&listener] {
    std::this_thread::sleep_for(milliseconds(20));
    const UniqueFd first(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    const UniqueFd second(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  });
  EXPECT_FALSE(connect_error(address));
  acceptor.join();
}

TEST_P(ListenerTest, ConnectToAHostThatDoesNotAnswerTimesOut) {
  // A listener whose queue is full drops what asks to connect, as a dead host does.
  const RawAddress any_port = *raw_numeric_address("127.0.0.1", 0);
  const UniqueFd listener = raw_listener(any_port, 0);
  const RawAddress raw = *local_address(listener.get());
  std::vector<UniqueFd> waiting;
  for (int i = 0; i < 4; ++i) waiting.push_back(raw_connection(raw));
  const auto failure = connect_error(to_socket_address(raw), milliseconds(50));
  ASSERT_TRUE(failure);
  EXPECT_EQ(failure->code(), ErrorCode::kTimedOut);
}

}  // namespace
}  // namespace blockmig

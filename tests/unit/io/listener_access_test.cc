// SPDX-License-Identifier: Apache-2.0
// Who may come in and who it is: socket files' modes and groups, peer credentials, sockets that
// somebody else has made, vsock.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>

#include "blockmig/io/raw_address.h"
#include "blockmig/io/unique_fd.h"
#include "tests/unit/io/stream_fixture.h"

namespace blockmig {
namespace {

class ListenerAccessTest : public LoopTest {
 protected:
  SocketAddress unix_address(const std::string& name) {
    SocketAddress address;
    address.path = folder_ / name;
    return address;
  }
  struct stat status_of(const SocketAddress& address) {
    struct stat status {};
    EXPECT_EQ(::stat(address.path.c_str(), &status), 0);
    return status;
  }
  TemporaryFolder folder_;
};
INSTANTIATE_TEST_SUITE_P(Loops, ListenerAccessTest,
                         testing::Values(TestLoop::kUringDeferred, TestLoop::kPortable), loop_name);

TEST_P(ListenerAccessTest, TheSocketFileGetsItsModeWhateverTheUmask) {
  for (const std::uint32_t mode : {0600u, 0660u, 0666u, 0000u}) {
    const SocketAddress address = unix_address("mode" + std::to_string(mode));
    UnixSocketOptions options;
    options.mode = mode;
    const auto listener = listen_on(loop(), address, options);
    ASSERT_TRUE(listener) << listener.error().message();
    EXPECT_EQ(status_of(address).st_mode & 07777, mode);
  }
}

TEST_P(ListenerAccessTest, TheSocketFileGetsItsGroup) {
  UnixSocketOptions options;
  options.gid = ::geteuid() == 0 ? 12345 : ::getegid();
  const SocketAddress address = unix_address("s");
  const auto listener = listen_on(loop(), address, options);
  ASSERT_TRUE(listener) << listener.error().message();
  EXPECT_EQ(status_of(address).st_gid, *options.gid);
  EXPECT_EQ(status_of(address).st_uid, ::geteuid());
}

TEST_P(ListenerAccessTest, AGroupThatCannotBeSetLeavesNoSocketBehind) {
  if (::geteuid() == 0) GTEST_SKIP() << "root may set every group";
  UnixSocketOptions options;
  options.gid = 0;
  const SocketAddress address = unix_address("s");
  const auto listener = listen_on(loop(), address, options);
  ASSERT_FALSE(listener);
  EXPECT_NE(listener.error().message().find("set its group"), std::string::npos);
  EXPECT_NE(::access(address.path.c_str(), F_OK), 0);
}

TEST_P(ListenerAccessTest, AUnixPeerIsKnownByItsUserAndGroups) {
  const auto listener = listen_on(loop(), unix_address("s"));
  ASSERT_TRUE(listener);
  const auto pair = run(connect_pair(loop(), **listener));
  ASSERT_TRUE(pair);
  const StreamPeer peer = pair->second->peer();
  EXPECT_EQ(peer.origin, "uid:" + std::to_string(::geteuid()));
  ASSERT_TRUE(peer.credentials);
  EXPECT_EQ(peer.credentials->uid, ::geteuid());
  EXPECT_EQ(peer.credentials->pid, ::getpid());
  ASSERT_FALSE(peer.credentials->gids.empty());
  EXPECT_EQ(peer.credentials->gids[0], ::getegid());
  std::vector<gid_t> groups(1024);
  const int count = ::getgroups(static_cast<int>(groups.size()), groups.data());
  EXPECT_EQ(peer.credentials->gids.size(), 1 + static_cast<std::size_t>(count));
}

TEST_P(ListenerAccessTest, APeerStaysKnownWhenItHasGone) {
  const auto listener = listen_on(loop(), unix_address("s"));
  ASSERT_TRUE(listener);
  auto pair = run(connect_pair(loop(), **listener));
  ASSERT_TRUE(pair);
  pair->first.reset();
  settle();
  EXPECT_EQ(pair->second->peer().origin, "uid:" + std::to_string(::geteuid()));
}

TEST_P(ListenerAccessTest, ATcpPeerIsKnownByItsHostAlone) {
  const auto listener = listen_on(loop(), *SocketAddress::parse("tcp:127.0.0.1:0"));
  ASSERT_TRUE(listener);
  const auto first = run(connect_pair(loop(), **listener));
  const auto second = run(connect_pair(loop(), **listener));
  ASSERT_TRUE(first && second);
  EXPECT_NE(first->second->peer_name(), second->second->peer_name());
  EXPECT_EQ(first->second->peer().origin, "tcp:127.0.0.1");
  EXPECT_EQ(second->second->peer().origin, "tcp:127.0.0.1");
  EXPECT_FALSE(first->second->peer().credentials);
}

TEST_P(ListenerAccessTest, OneListenerTakesBothFamiliesAndTellsThemApart) {
  SocketAddress any;
  any.family = SocketAddress::Family::kTcp;
  const auto listener = listen_on(loop(), any);
  ASSERT_TRUE(listener);
  for (const std::string host : {"127.0.0.1", "::1"}) {
    SocketAddress address = (*listener)->address();
    address.host = host;
    Result<std::unique_ptr<Stream>> accepted = Error(ErrorCode::kIo);
    TaskScope scope;
    scope.spawn(accept_into(**listener, accepted));
    const auto connected = run(connect_to(loop(), address, std::chrono::seconds(10)));
    if (!connected && host == "::1") {
      (*listener)->close();
      run(join_all(scope));
      GTEST_SKIP() << "no IPv6 here: " << connected.error().message();
    }
    run(join_all(scope));
    ASSERT_TRUE(accepted);
    EXPECT_EQ((*accepted)->peer().origin, "tcp:" + host);
  }
}

TEST_P(ListenerAccessTest, AV6AddressTakesOnlyV6) {
  const auto v6 = listen_on(loop(), *SocketAddress::parse("tcp:[::]:0"));
  if (!v6) GTEST_SKIP() << "no IPv6 here: " << v6.error().message();
  SocketAddress v4 = *SocketAddress::parse("tcp:127.0.0.1:0");
  v4.port = (*v6)->address().port;
  // The port is free for the other family.
  const auto beside = listen_on(loop(), v4);
  EXPECT_TRUE(beside) << beside.error().message();
}

UniqueFd foreign_listener(const SocketAddress& address) {
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  const RawAddress raw = *raw_unix_address(address.path);
  EXPECT_EQ(::bind(socket.get(), raw.get(), raw.length), 0);
  EXPECT_EQ(::listen(socket.get(), 8), 0);
  return socket;
}

TEST_P(ListenerAccessTest, AnAdoptedListenerAcceptsAndIsLeftUsableForItsOwner) {
  const SocketAddress address = unix_address("activated");
  const UniqueFd owner = foreign_listener(address);
  {
    const auto listener = adopt_listener(loop(), ::dup(owner.get()));
    ASSERT_TRUE(listener) << listener.error().message();
    EXPECT_EQ((*listener)->address().to_string(), address.to_string());
    EXPECT_TRUE(run(connect_pair(loop(), **listener)));
    (*listener)->close();
    const auto later = run((*listener)->accept());
    ASSERT_FALSE(later);
    EXPECT_EQ(later.error().code(), ErrorCode::kCancelled);
  }
  EXPECT_EQ(::access(address.path.c_str(), F_OK), 0) << "the file is the owner's";
  // The next process gets the clients that come meanwhile.
  const auto waiting = run(connect_to(loop(), address, std::chrono::seconds(10)));
  ASSERT_TRUE(waiting) << waiting.error().message();
  const auto again = adopt_listener(loop(), ::dup(owner.get()));
  ASSERT_TRUE(again);
  EXPECT_TRUE(run((*again)->accept()));
}

TEST_P(ListenerAccessTest, AdoptsOnlyListeningStreamSockets) {
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  const UniqueFd other(pair[1]);
  const auto connected = adopt_listener(loop(), pair[0]);
  ASSERT_FALSE(connected);
  EXPECT_EQ(connected.error().code(), ErrorCode::kInvalid);
  EXPECT_NE(connected.error().message().find("not a listening socket"), std::string::npos);
  EXPECT_EQ(::fcntl(pair[0], F_GETFD), -1) << "it was ours to close";
  const auto datagram = adopt_listener(loop(), ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_FALSE(datagram);
  EXPECT_NE(datagram.error().message().find("not a stream socket"), std::string::npos);
  const auto file = adopt_listener(loop(), ::open("/dev/null", O_RDWR | O_CLOEXEC));
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message().find("not a socket"), std::string::npos);
}

TEST_P(ListenerAccessTest, VsockServesWhereTheKernelHasItAndSaysWhereNot) {
  SocketAddress address;
  address.family = SocketAddress::Family::kVsock;
  address.cid = VMADDR_CID_LOCAL;
  const auto listener = listen_on(loop(), address);
  if (!listener) {
    EXPECT_EQ(listener.error().code(), ErrorCode::kNotSupported) << listener.error().message();
    EXPECT_NE(listener.error().message().find("vsock"), std::string::npos);
    return;
  }
  EXPECT_NE((*listener)->address().vsock_port, 0u);
  Result<std::unique_ptr<Stream>> accepted = Error(ErrorCode::kIo);
  TaskScope scope;
  scope.spawn(accept_into(**listener, accepted));
  const auto connected = run(connect_to(loop(), (*listener)->address(), std::chrono::seconds(10)));
  if (!connected) {
    (*listener)->close();
    run(join_all(scope));
    GTEST_SKIP() << "no vsock loopback: " << connected.error().message();
  }
  run(join_all(scope));
  ASSERT_TRUE(accepted);
  EXPECT_EQ((*accepted)->peer().origin, "vsock:1");
}

TEST_P(ListenerAccessTest, AContextIdThatIsNotOursIsAClearError) {
  SocketAddress address = *SocketAddress::parse("vsock:4000000000:7777");
  const auto listener = listen_on(loop(), address);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code(), ErrorCode::kNotSupported);
  EXPECT_NE(listener.error().message().find("vsock:4000000000:7777"), std::string::npos);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <string>

#include "blockmig/io/stream.h"

namespace blockmig {
namespace {

using Family = SocketAddress::Family;

TEST(SocketAddress, ParsesUnixPaths) {
  const auto address = SocketAddress::parse("unix:/run/x:y.sock");
  ASSERT_TRUE(address);
  EXPECT_EQ(address->family, Family::kUnix);
  EXPECT_EQ(address->path, "/run/x:y.sock");
}

TEST(SocketAddress, ParsesTcp) {
  const auto named = SocketAddress::parse("tcp:example.org:10809");
  ASSERT_TRUE(named);
  EXPECT_EQ(named->family, Family::kTcp);
  EXPECT_EQ(named->host, "example.org");
  EXPECT_EQ(named->port, 10809);
  const auto v6 = SocketAddress::parse("tcp:[fe80::1]:1");
  ASSERT_TRUE(v6);
  EXPECT_EQ(v6->host, "fe80::1");
  EXPECT_EQ(v6->port, 1);
  const auto any = SocketAddress::parse("tcp::0");
  ASSERT_TRUE(any);
  EXPECT_EQ(any->host, "");
  EXPECT_EQ(any->port, 0);
}

TEST(SocketAddress, ParsesVsock) {
  const auto host = SocketAddress::parse("vsock:2:10809");
  ASSERT_TRUE(host);
  EXPECT_EQ(host->family, Family::kVsock);
  EXPECT_EQ(host->cid, 2u);
  EXPECT_EQ(host->vsock_port, 10809u);
  const auto any = SocketAddress::parse("vsock::4294967294");
  ASSERT_TRUE(any);
  EXPECT_EQ(any->cid, SocketAddress::kAnyCid);
  EXPECT_EQ(any->vsock_port, 4294967294u);
}

TEST(SocketAddress, PrintsWhatItParses) {
  for (const std::string text : {"unix:/a/b", "unix:relative", "tcp:h:1", "tcp:[::1]:65535",
                                 "tcp::10809", "vsock:3:5", "vsock::5"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
}

TEST(SocketAddress, KnowsWhatOthersReach) {
  for (const char* near : {"unix:/x", "vsock::1", "tcp:127.0.0.1:1", "tcp:127.9.9.9:1",
                           "tcp:[::1]:1", "tcp:localhost:1"}) {
    EXPECT_FALSE(SocketAddress::parse(near)->is_on_a_network()) << near;
  }
  for (const char* far :
       {"tcp::1", "tcp:0.0.0.0:1", "tcp:[::]:1", "tcp:10.0.0.1:1", "tcp:host:1"}) {
    EXPECT_TRUE(SocketAddress::parse(far)->is_on_a_network()) << far;
  }
}

TEST(SocketAddress, RefusesWhatIsNoAddress) {
  for (const std::string text : {"",
                                 "unix:",
                                 "/run/x.sock",
                                 "udp:h:1",
                                 "tcp:",
                                 "tcp:h",
                                 "tcp:h:",
                                 "tcp:h:x",
                                 "tcp:h:1x",
                                 "tcp:h:65536",
                                 "tcp:h:-1",
                                 "tcp:h: 1",
                                 "tcp:::1:10809",
                                 "tcp:[::1:10809",
                                 "tcp:[]:1",
                                 "tcp:[:1",
                                 "vsock:",
                                 "vsock:1",
                                 "vsock:1:",
                                 "vsock:x:1",
                                 "vsock:-1:1",
                                 "vsock:4294967295:1",
                                 "vsock:1:4294967295",
                                 "vsock:1:2:3",
                                 "vsock:1: 2"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().code(), ErrorCode::kInvalid) << text;
  }
}

TEST(SocketAddress, SaysThatAPathIsTooLong) {
  EXPECT_TRUE(SocketAddress::parse("unix:/" + std::string(106, 'x')));
  const auto address = SocketAddress::parse("unix:/" + std::string(107, 'x'));
  ASSERT_FALSE(address);
  EXPECT_EQ(address.error().code(), ErrorCode::kInvalid);
  EXPECT_NE(address.error().message().find("at most 107 bytes long, this has 108"),
            std::string::npos)
      << address.error().message();
}

}  // namespace
}  // namespace blockmig

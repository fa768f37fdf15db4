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

TEST(SocketAddress, PrintsWhatItParses) {
  for (const std::string text :
       {"unix:/a/b", "unix:relative", "tcp:h:1", "tcp:[::1]:65535", "tcp::10809"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << text;
    EXPECT_EQ(address->to_string(), text);
  }
}

TEST(SocketAddress, RefusesWhatIsNoAddress) {
  for (const std::string text : {"", "unix:", "/run/x.sock", "udp:h:1", "tcp:", "tcp:h", "tcp:h:",
                                 "tcp:h:x", "tcp:h:1x", "tcp:h:65536", "tcp:h:-1", "tcp:h: 1",
                                 "tcp:::1:10809", "tcp:[::1:10809", "tcp:[]:1", "tcp:[:1"}) {
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

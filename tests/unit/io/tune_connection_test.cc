// SPDX-License-Identifier: Apache-2.0
// What a TCP connection from this host is set to.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <string>

#include "blockmig/io/raw_address.h"
#include "blockmig/io/socket_stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

std::string congestion_control(int fd) {
  char name[16] = {};
  socklen_t length = sizeof name;
  EXPECT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length), 0);
  return name;
}

TEST(TuneConnection, OverTheLoopbackNothingIsPaced) {
  const UniqueFd door(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in here{};
  here.sin_family = AF_INET;
  here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof here;
  ASSERT_EQ(::bind(door.get(), reinterpret_cast<sockaddr*>(&here), length), 0);
  ASSERT_EQ(::listen(door.get(), 1), 0);
  ASSERT_EQ(::getsockname(door.get(), reinterpret_cast<sockaddr*>(&here), &length), 0);
  const std::string usual = congestion_control(door.get());
  tune_socket(door.get(), AF_INET);
  EXPECT_EQ(congestion_control(door.get()), usual) << "others may come from elsewhere";
  const UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto own = local_address(door.get());
  ASSERT_TRUE(own.ok());
  tune_connection(client.get(), *own);
  EXPECT_EQ(congestion_control(client.get()), "reno") << "the end that connects, before it does";
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&here), length), 0);
  const UniqueFd accepted(::accept(door.get(), nullptr, nullptr));
  const auto peer = peer_address(accepted.get());
  ASSERT_TRUE(peer.ok());
  tune_connection(accepted.get(), *peer);
  EXPECT_EQ(congestion_control(accepted.get()), "reno");
}

}  // namespace
}  // namespace blockmig

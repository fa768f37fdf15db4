// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/inherited_sockets.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace blockmig {
namespace {

/// Far above what a test has open.
constexpr int kFirst = 700;

class InheritedSocketsTest : public testing::Test {
 protected:
  void TearDown() override {
    for (int fd = kFirst; fd < kFirst + 4; ++fd) ::close(fd);
    for (const char* name : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  }
  static void announce(const std::string& pid, const std::string& count, const char* names) {
    ::setenv("LISTEN_PID", pid.c_str(), 1);
    ::setenv("LISTEN_FDS", count.c_str(), 1);
    if (names != nullptr) ::setenv("LISTEN_FDNAMES", names, 1);
  }
  static std::string me() { return std::to_string(::getpid()); }
  /// Puts a descriptor where it is announced, open across exec as activation leaves it.
  static void place(int index, int fd) {
    ASSERT_EQ(::dup2(fd, kFirst + index), kFirst + index);
    ::close(fd);
  }
  static int listening() {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in any{};
    any.sin_family = AF_INET;
    any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&any), sizeof any), 0);
    EXPECT_EQ(::listen(fd, 4), 0);
    return fd;
  }
  static bool unset() {
    return ::getenv("LISTEN_PID") == nullptr && ::getenv("LISTEN_FDS") == nullptr &&
           ::getenv("LISTEN_FDNAMES") == nullptr;
  }
  static std::string complaint() {
    const auto sockets = take_activated_sockets(kFirst);
    EXPECT_FALSE(sockets.ok());
    EXPECT_TRUE(unset());
    if (sockets.ok()) return "";
    EXPECT_EQ(sockets.error().code(), ErrorCode::kInvalid);
    return sockets.error().message();
  }
};

TEST_F(InheritedSocketsTest, NothingAnnouncedIsNothing) {
  const auto sockets = take_activated_sockets(kFirst);
  ASSERT_TRUE(sockets.ok());
  EXPECT_TRUE(sockets->empty());
}

TEST_F(InheritedSocketsTest, TakesThemWithTheirNames) {
  place(0, listening());
  int pair[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
  place(1, pair[0]);
  announce(me(), "2", "nbd.socket:");
  const auto sockets = take_activated_sockets(kFirst);
  ::close(pair[1]);
  ASSERT_TRUE(sockets.ok()) << sockets.error().message();
  ASSERT_EQ(sockets->size(), 2u);
  EXPECT_EQ((*sockets)[0].fd.get(), kFirst);
  EXPECT_EQ((*sockets)[0].name, "nbd.socket");
  EXPECT_TRUE((*sockets)[0].listening);
  EXPECT_EQ((*sockets)[1].name, "unknown");
  EXPECT_FALSE((*sockets)[1].listening);
  EXPECT_TRUE(unset());
  EXPECT_EQ(::fcntl(kFirst, F_GETFD), FD_CLOEXEC) << "no child inherits it";
}

TEST_F(InheritedSocketsTest, NamesAreOptional) {
  place(0, listening());
  announce(me(), "1", nullptr);
  const auto sockets = take_activated_sockets(kFirst);
  ASSERT_TRUE(sockets.ok());
  EXPECT_EQ((*sockets)[0].name, "unknown");
}

TEST_F(InheritedSocketsTest, WhatIsMeantForAnotherProcessIsLeftAlone) {
  place(0, listening());
  announce(std::to_string(::getpid() + 1), "1", "x");
  const auto sockets = take_activated_sockets(kFirst);
  ASSERT_TRUE(sockets.ok());
  EXPECT_TRUE(sockets->empty());
  EXPECT_TRUE(unset()) << "our children are not meant either";
  EXPECT_EQ(::fcntl(kFirst, F_GETFD), 0) << "not ours to touch";
}

TEST_F(InheritedSocketsTest, SaysWhichVariableCannotBe) {
  announce("me", "1", nullptr);
  EXPECT_NE(complaint().find("LISTEN_PID is 'me'"), std::string::npos);
  for (const char* count : {"", "x", "-1", "1x", "99999999999", "70000"}) {
    announce(me(), count, nullptr);
    EXPECT_NE(complaint().find("LISTEN_FDS is"), std::string::npos) << count;
  }
  place(0, listening());
  announce(me(), "1", "a:b");
  EXPECT_NE(complaint().find("LISTEN_FDNAMES"), std::string::npos);
}

TEST_F(InheritedSocketsTest, SaysWhichDescriptorIsWrong) {
  announce(me(), "1", "a");
  EXPECT_NE(complaint().find("descriptor 700 ('a') is not open"), std::string::npos);
  place(0, ::open("/dev/null", O_RDWR));
  announce(me(), "1", "b");
  EXPECT_NE(complaint().find("descriptor 700 ('b') is not a socket"), std::string::npos);
  place(0, ::socket(AF_UNIX, SOCK_DGRAM, 0));
  announce(me(), "1", "c");
  EXPECT_NE(complaint().find("descriptor 700 ('c') is not a stream socket"), std::string::npos);
}

/// What take_standard_streams() says in a process with these descriptors as 0 and 1: 0 one socket,
/// 1 two descriptors, 2 refused.
int standard_streams_of(int in, int out) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(in, STDIN_FILENO);
    ::dup2(out, STDOUT_FILENO);
    const auto streams = take_standard_streams();
    if (!streams) ::_exit(streams.error().code() == ErrorCode::kPrecondition ? 2 : 3);
    // Neither reading nor printing reaches the client any more.
    char byte = 0;
    if (::read(STDIN_FILENO, &byte, 1) != 0) ::_exit(4);
    if (streams->out && ::write(STDOUT_FILENO, "x", 1) != 1) ::_exit(5);
    ::_exit(streams->out ? 1 : 0);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  return WEXITSTATUS(status);
}

TEST(StandardStreams, TakesASocketOrTwoDescriptorsAndRefusesTheRest) {
  int pair[2];
  int pipes[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
  ASSERT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(standard_streams_of(pair[0], pair[0]), 0);
  EXPECT_EQ(standard_streams_of(pair[0], null.get()), 0) << "inetd may point output elsewhere";
  EXPECT_EQ(standard_streams_of(pipes[0], pipes[1]), 1);
  EXPECT_EQ(standard_streams_of(pair[0], pipes[1]), 1);
  EXPECT_EQ(standard_streams_of(null.get(), null.get()), 2);
  EXPECT_EQ(standard_streams_of(pipes[0], null.get()), 2);
  for (const int fd : {pair[0], pair[1], pipes[0], pipes[1]}) ::close(fd);
}

}  // namespace
}  // namespace blockmig

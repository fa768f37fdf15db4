// SPDX-License-Identifier: Apache-2.0
// What one daemon tells the next: its text, and the message with descriptors.
#include "tools/daemon/handover.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "tools/control/listen_record.h"

namespace blockmig {
namespace {

HandoverState sample() {
  HandoverState state;
  state.listeners = {{true, "tcp::0"}, {false, ""}};
  state.cookies = {5, 0, 1ull << 63};
  state.protection = {.tls = true, .users = true};
  HandoverClient client;
  client.disk = "vm";
  client.id = 7;
  client.past = {.requests = 10,
                 .requests_by_op = {1, 2, 3, 4},
                 .errors = 5,
                 .refused = 6,
                 .bytes_read = 20,
                 .bytes_written = 30,
                 .connected = std::chrono::milliseconds(40)};
  client.style = "extended";
  client.size_bytes = 1ull << 40;
  client.minimum_block = 512;
  client.maximum_payload = 32u << 20;
  client.max_request_bytes = 64u << 20;
  client.has_contexts = client.can_trim = true;
  client.contexts = {{3, "qemu:dirty-bitmap:b"}, {1, "base:allocation"}};
  client.leftover = std::string("\0\xff half a request", 17);
  state.clients.push_back(client);
  HandoverDisk disk;
  disk.request.disk = "vm";
  disk.request.cache = CacheMode::kMap;
  disk.bitmaps = {{"b", std::string("\1\2\0", 3), true, "its id"}};
  state.disks.push_back(disk);
  return state;
}

TEST(HandoverTextTest, SaysEverything) {
  const HandoverState state = sample();
  const auto back = handover_from_json(to_json(state));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->listeners, state.listeners);
  EXPECT_EQ(back->cookies, state.cookies);
  EXPECT_EQ(back->protection, state.protection);
  EXPECT_EQ(back->clients, state.clients);
  ASSERT_EQ(back->disks.size(), 1u);
  EXPECT_EQ(back->disks[0].request.disk, "vm");
  EXPECT_EQ(back->disks[0].request.cache, CacheMode::kMap);
  EXPECT_EQ(back->disks[0].bitmaps, state.disks[0].bitmaps);
}

TEST(ListenRecordTest, SaysEverything) {
  const ListenRecord record{{true, false, true, true}, {0600, 7}};
  const auto back = listen_record_from_json(to_json(record));
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->protection, record.protection);
  EXPECT_EQ(back->unix_sockets.mode, 0600u);
  EXPECT_EQ(back->unix_sockets.gid, 7u);
  EXPECT_FALSE(listen_record_from_json(to_json(ListenRecord()))->unix_sockets.mode);
  for (const char* bad : {"", "[]", "{}", "{\"version\":2}", "{\"version\":1,\"tls\":0}"}) {
    EXPECT_FALSE(listen_record_from_json(bad).ok()) << bad;
  }
}

TEST(HandoverTextTest, WhoDoesNotSayWhatWasAskedForIsUnderstood) {
  const auto back =
      handover_from_json("{\"version\":1,\"owned_listeners\":[true],\"clients\":[],\"disks\":[]}");
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_EQ(back->listeners, (std::vector<HandoverListener>{{true, ""}}));
}

TEST(HandoverTextTest, AnotherVersionIsRefused) {
  std::string text = to_json(sample());
  text.replace(text.find("\"version\":1"), 11, "\"version\":2");
  const auto back = handover_from_json(text);
  ASSERT_FALSE(back.ok());
  EXPECT_EQ(back.error().code(), ErrorCode::kPrecondition);
}

TEST(HandoverTextTest, DamagedTextsAreErrors) {
  const std::string good = to_json(sample());
  for (const char* bad : {"", "[]", "{}", "{\"version\":1}",
                          "{\"version\":1,\"owned_listeners\":[1],\"clients\":[],\"disks\":[]}",
                          "{\"version\":1,\"owned_listeners\":[],\"clients\":[{}],\"disks\":[]}",
                          "{\"version\":1,\"owned_listeners\":[],\"clients\":[],\"disks\":[7]}"}) {
    EXPECT_FALSE(handover_from_json(bad).ok()) << bad;
  }
  for (const char* digits : {"\"00f", "\"0g"}) {
    std::string odd = good;
    odd.replace(odd.find("\"leftover\":\"") + 11, 3, digits);
    EXPECT_FALSE(handover_from_json(odd).ok()) << digits;
  }
  for (std::size_t cut = 0; cut < good.size(); cut += 7) {
    EXPECT_FALSE(handover_from_json(good.substr(0, cut)).ok()) << cut;
  }
}

class HandoverMessageTest : public testing::Test {
 protected:
  void SetUp() override {
    std::array<int, 2> pair{};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()), 0);
    old_ = UniqueFd(pair[0]);
    next_ = UniqueFd(pair[1]);
  }
  static UniqueFd a_file() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
  static ino_t inode(const UniqueFd& fd) {
    struct stat facts {};
    EXPECT_EQ(::fstat(fd.get(), &facts), 0);
    return facts.st_ino;
  }
  static UniqueFd a_pipe_end() {
    std::array<int, 2> pipe{};
    EXPECT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    ::close(pipe[1]);
    return UniqueFd(pipe[0]);
  }

  UniqueFd old_, next_;
};

TEST_F(HandoverMessageTest, DescriptorsArriveInOrderHoweverMany) {
  Handover handover;
  handover.state = sample();
  for (int i = 0; i < 450; ++i) handover.sockets.push_back(a_pipe_end());
  handover.lock = a_file();
  Status sent = Error(ErrorCode::kIo);
  std::thread sender([&] { sent = send_handover(old_.get(), handover); });
  const auto got = receive_handover(next_.get());
  sender.join();
  ASSERT_TRUE(sent.ok());
  ASSERT_TRUE(got.ok()) << got.error().message();
  ASSERT_EQ(got->sockets.size(), handover.sockets.size());
  for (std::size_t i = 0; i < got->sockets.size(); ++i) {
    EXPECT_EQ(inode(got->sockets[i]), inode(handover.sockets[i])) << i;
    EXPECT_NE(::fcntl(got->sockets[i].get(), F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(inode(got->lock), inode(handover.lock));
  EXPECT_EQ(got->state.clients, handover.state.clients);
}

TEST_F(HandoverMessageTest, ARefusalComesInItsOwnWords) {
  ASSERT_TRUE(send_refusal(old_.get(), Error(ErrorCode::kBusy, "disk 'vm' moves")).ok());
  const auto got = receive_handover(next_.get());
  ASSERT_FALSE(got.ok());
  EXPECT_NE(got.error().message().find("disk 'vm' moves"), std::string::npos);
}

TEST_F(HandoverMessageTest, WhoDiesInTheMiddleIsNoticed) {
  Handover handover;
  handover.state = sample();
  handover.lock = a_file();
  ASSERT_TRUE(send_handover(old_.get(), handover).ok());
  next_ = UniqueFd();
  EXPECT_FALSE(receive_verdict(old_.get()).ok());
  SetUp();
  const char part[] = "VODNAHMB half a head";
  ASSERT_GT(::send(old_.get(), part, 20, 0), 0);
  old_ = UniqueFd();
  EXPECT_EQ(receive_handover(next_.get()).error().code(), ErrorCode::kDisconnected);
}

TEST_F(HandoverMessageTest, GarbageIsNoHandover) {
  const std::string garbage(24, 'x');
  ASSERT_EQ(::send(old_.get(), garbage.data(), garbage.size(), 0), 24);
  EXPECT_EQ(receive_handover(next_.get()).error().code(), ErrorCode::kProtocol);
}

TEST_F(HandoverMessageTest, VerdictsArrive) {
  ASSERT_TRUE(send_verdict(next_.get(), {}).ok());
  EXPECT_TRUE(receive_verdict(old_.get()).ok());
  ASSERT_TRUE(send_verdict(next_.get(), Error(ErrorCode::kIo, "no journal")).ok());
  const Status refused = receive_verdict(old_.get());
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message().find("no journal"), std::string::npos);
}

TEST(HandoverTest, DescriptorsMustFitTheState) {
  Handover handover;
  handover.state = sample();
  EXPECT_EQ(parked_of(handover).error().code(), ErrorCode::kInvalid);
  for (int i = 0; i < 3; ++i) {
    handover.sockets.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  }
  const auto parked = parked_of(handover);
  ASSERT_TRUE(parked.ok()) << parked.error().message();
  EXPECT_EQ(parked->listeners.size(), 2u);
  EXPECT_TRUE(parked->listeners[0].owned);
  ASSERT_EQ(parked->clients.size(), 1u);
  EXPECT_EQ(parked->clients[0].contexts[0].bitmap, "b");
  EXPECT_EQ(parked->clients[0].contexts[0].id, 3u);
  EXPECT_EQ(parked->clients[0].leftover.size(), 17u);
  handover.state.clients[0].style = "baroque";
  EXPECT_FALSE(parked_of(handover).ok());
  handover.state.clients[0].style = "simple";
  handover.state.clients[0].contexts[0].name = "else:where";
  EXPECT_FALSE(parked_of(handover).ok());
}

}  // namespace
}  // namespace blockmig

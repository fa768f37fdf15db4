// SPDX-License-Identifier: Apache-2.0
// A server that hands its clients to another one: nobody notices.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "nbdserver/listen_protection.h"
#include "served_rig.h"
#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using namespace std::chrono_literals;

class ParkingTest : public testing::TestWithParam<int>, protected ServedRig {
 protected:
  void SetUp() override {
    prepare(LoopKind::kAuto, GetParam(), spy_);
    first_ = make_nbd_server(*loop_, directory_, options_);
    second_ = make_nbd_server(*loop_, directory_, options_);
    ASSERT_TRUE(first_->listen(address_).ok());
  }
  void TearDown() override {
    run_task(*loop_, first_->stop(100ms));
    run_task(*loop_, second_->stop(100ms));
    clients_.clear();
    EXPECT_FALSE(std::filesystem::exists(folder_ / "s.sock")) << "the last owner removes it";
  }
  Result<ParkedServer> park(Duration patience = 5s, Stragglers stragglers = Stragglers::kRefuse) {
    return run_task(*loop_, first_->park(patience, stragglers));
  }
  void hand_over() {
    Result<ParkedServer> parked = park();
    ASSERT_TRUE(parked.ok()) << parked.error().message();
    EXPECT_TRUE(first_->clients().empty());
    ASSERT_TRUE(second_->resume(*std::move(parked)).ok());
  }
  Task<void> park_into(std::optional<Result<ParkedServer>>& parked) {
    Result<ParkedServer> result = co_await first_->park(5s, Stragglers::kRefuse);
    parked.emplace(std::move(result));
  }
  bool is_cut(Stream& client) {
    ByteVector bytes(1 << 16);
    for (;;) {  // for ever, if it is not
      const auto got = run_task(*loop_, client.read_some(bytes));
      if (!got.ok() || *got == 0) return true;
    }
  }
  void settle() { run_task(*loop_, sleep_for(*loop_, 20ms)); }
  ByteVector peek(std::uint64_t offset, std::size_t size) {
    ByteVector bytes(size);
    memory_.peek(offset, bytes);
    return bytes;
  }

  MemoryDevice memory_{"memory", 16 << 20};
  SpyDevice spy_{memory_};
  std::unique_ptr<NbdServer> first_, second_;
};

TEST_P(ParkingTest, IdleClientsAndTheListenerGoOnElsewhere) {
  Stream& one = transmitting();
  Stream& two = transmitting();
  settle();
  hand_over();
  EXPECT_EQ(second_->clients().size(), 2u);
  const ByteVector payload(512, std::byte{7});
  send(one, join({request(0, kWrite, 1, 0, 512), payload}));
  EXPECT_EQ(receive(one, 16), simple_reply(0, 1));
  send(two, request(0, kRead, 2, 0, 512));
  EXPECT_EQ(receive(two, 16 + 512), simple_reply(0, 2, payload));
  Stream& fresh = transmitting();
  send(fresh, request(0, kRead, 3, 0, 512));
  EXPECT_EQ(receive(fresh, 16 + 512), simple_reply(0, 3, payload));
  EXPECT_EQ(second_->addresses().size(), 1u);
  EXPECT_TRUE(first_->addresses().empty());
}

TEST_P(ParkingTest, AClientStaysWhoItWas) {
  transmitting();
  clients_.clear();
  Stream& client = transmitting();
  Stream& late = transmitting();
  for (unsigned i = 0; i < 3; ++i) {
    send(client, request(0, kRead, i, 0, 512));
    receive(client, 16 + 512);
  }
  send(late, request(0, kWrite, 9, 0, 4 << 20));  // and not the payload
  settle();
  const auto find = [&](const NbdServer& server, std::uint64_t id) {
    for (const NbdClientInfo& info : server.clients()) {
      if (info.id == id) return info;
    }
    return NbdClientInfo{};
  };
  const auto is_as_it_was = [&](const NbdServer& server) {
    const NbdClientInfo info = find(server, 2);
    EXPECT_EQ(info.requests, 3u);
    EXPECT_EQ(info.bytes_read, 3 * 512u);
    EXPECT_EQ(info.peer, "unix:" + folder_ / "s.sock");
  };
  is_as_it_was(*first_);
  EXPECT_FALSE(park(30ms).ok());
  settle();
  is_as_it_was(*first_);
  Result<ParkedServer> parked = park(5s, Stragglers::kCut);
  ASSERT_TRUE(parked.ok());
  ASSERT_TRUE(second_->resume(*std::move(parked)).ok());
  settle();
  is_as_it_was(*second_);
  transmitting();
  settle();
  EXPECT_EQ(second_->clients().back().id, 3u) << "no number is given twice";
}

TEST_P(ParkingTest, AHalfRequestIsFinishedElsewhere) {
  Stream& client = transmitting();
  const ByteVector write = join({request(0, kWrite, 9, 4096, 512), ByteVector(512, std::byte{3})});
  for (const std::size_t cut : {1u, 27u, 28u, 29u, 539u}) {
    send(client, ByteVector(write.begin(), write.begin() + static_cast<long>(cut)));
    settle();
    hand_over();
    std::swap(first_, second_);
    second_ = make_nbd_server(*loop_, directory_, options_);
    send(client, ByteVector(write.begin() + static_cast<long>(cut), write.end()));
    EXPECT_EQ(receive(client, 16), simple_reply(0, 9)) << cut;
  }
  EXPECT_EQ(peek(4096, 512), ByteVector(512, std::byte{3}));
}

TEST_P(ParkingTest, APayloadThatIsOnItsWayIsWaitedFor) {
  Stream& client = transmitting();
  const ByteVector payload(300 * 1024, std::byte{5});
  const ByteVector write = join({request(0, kWrite, 9, 0, 300 * 1024), payload});
  const auto half = write.begin() + 200 * 1024;
  send(client, ByteVector(write.begin(), half));
  settle();
  const Result<ParkedServer> refused = park(30ms);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kTimedOut);
  // Nothing has changed: the request ends here, and so do later ones.
  send(client, ByteVector(half, write.end()));
  EXPECT_EQ(receive(client, 16), simple_reply(0, 9));
  EXPECT_EQ(peek(0, payload.size()), payload);
  settle();
  send(client, request(0, kRead, 10, 0, 512));
  receive(client, 16 + 512);
  Stream& fresh = transmitting();
  send(fresh, request(0, kRead, 11, 0, 512));
  receive(fresh, 16 + 512);
  hand_over();
  send(client, request(0, kRead, 12, 0, 512));
  receive(client, 16 + 512);
}

TEST_P(ParkingTest, AnswersThatAreNotReadAreWaitedFor) {
  Stream& client = transmitting();
  for (unsigned i = 0; i < 8; ++i) send(client, request(0, kRead, i, i << 20, 1 << 20));
  settle();
  const Result<ParkedServer> refused = park(30ms);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kTimedOut);
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_EQ(receive(client, 16 + (1 << 20)), simple_reply(0, i, peek(i << 20, 1 << 20)));
  }
  settle();
  hand_over();
  send(client, request(0, kRead, 9, 0, 512));
  EXPECT_EQ(receive(client, 16 + 512), simple_reply(0, 9, peek(0, 512)));
}

TEST_P(ParkingTest, ManyRequestsAreAnsweredOnceEach) {
  Stream& client = transmitting();
  for (int round = 0; round < 20; ++round) {
    ByteVector batch;
    for (unsigned i = 0; i < 64; ++i) {
      batch = join({batch, request(0, kRead, i, i * 4096, 4096)});
    }
    send(client, batch);
    hand_over();
    std::swap(first_, second_);
    second_ = make_nbd_server(*loop_, directory_, options_);
    for (unsigned i = 0; i < 64; ++i) {
      EXPECT_EQ(receive(client, 16 + 4096), simple_reply(0, i, peek(i * 4096, 4096)));
    }
  }
}

TEST_P(ParkingTest, WhoNegotiatesFinishesFirst) {
  Stream& client = connected();
  receive(client, 18);
  TaskScope scope;
  std::optional<Result<ParkedServer>> parked;
  scope.spawn(park_into(parked));
  settle();
  EXPECT_FALSE(parked) << "it waits";
  send(client, join({client_flags(3), option(kOptExportName, Wire().text("disk0")),
                     request(0, kRead, 1, 0, 512)}));
  receive(client, 10);
  settle();
  ASSERT_TRUE(parked && parked->ok());
  ASSERT_TRUE(second_->resume(**std::move(parked)).ok());
  EXPECT_EQ(receive(client, 16 + 512), simple_reply(0, 1, peek(0, 512)));
}

TEST_P(ParkingTest, WhoDoesNotNegotiateIsCutBeforeAnybodyWaitsForIt) {
  Stream& silent = connected();
  Stream& half = connected();
  receive(half, 18);
  send(half, client_flags(3));
  Stream& good = transmitting();
  settle();
  TaskScope scope;
  std::optional<Result<ParkedServer>> parked;
  scope.spawn(park_into(parked));
  settle();
  EXPECT_FALSE(parked) << "the silent ones have a moment";
  send(good, request(0, kRead, 1, 0, 512));
  EXPECT_EQ(receive(good, 16 + 512), simple_reply(0, 1, peek(0, 512))) << "served meanwhile";
  EXPECT_TRUE(is_cut(silent));
  EXPECT_TRUE(is_cut(half));
  settle();
  ASSERT_TRUE(parked && parked->ok());
  EXPECT_EQ((*parked)->clients.size(), 1u);
  ASSERT_TRUE(second_->resume(**std::move(parked)).ok());
  send(good, request(0, kRead, 2, 0, 512));
  EXPECT_EQ(receive(good, 16 + 512), simple_reply(0, 2, peek(0, 512)));
}

TEST_P(ParkingTest, WhoSaysNothingDoesNotHoldTheEndUp) {
  connected();
  settle();
  const TimePoint never = loop_->now() + 1h;
  run_task(*loop_, first_->stop(2h));
  EXPECT_LT(loop_->now(), never);
}

TEST_P(ParkingTest, AListenerIsNotTakenOverWithLessProtection) {
  NbdSecurityOptions rules;
  rules.allow = {"uid:" + std::to_string(::getuid()) + " -> disk0"};
  NbdServerOptions strict = options_;
  strict.security = *make_nbd_security(rules);
  run_task(*loop_, first_->stop(100ms));
  first_ = make_nbd_server(*loop_, directory_, strict);
  ASSERT_TRUE(first_->listen(address_).ok());
  EXPECT_TRUE(first_->check_successor({.rules = true}).ok());
  EXPECT_EQ(first_->check_successor({.tls = true}).error().code(), ErrorCode::kInvalid);
  Result<ParkedServer> parked = park();
  ASSERT_TRUE(parked.ok());
  EXPECT_EQ(second_->resume(*std::move(parked)).error().code(), ErrorCode::kInvalid);
  EXPECT_TRUE(second_->addresses().empty());
}

TEST(ListenProtectionTest, WhatKeptStrangersOutIsMissed) {
  const SocketAddress unix_socket = *SocketAddress::parse("unix:/s");
  const SocketAddress tcp = *SocketAddress::parse("tcp:127.0.0.1:1");
  const ListenProtection all{.tls = true, .rules = true, .users = true};
  EXPECT_TRUE(check_kept(unix_socket, all, all).ok());
  EXPECT_TRUE(check_kept(tcp, {}, {}).ok());
  const ListenProtection no_users{.tls = true, .rules = true};
  EXPECT_FALSE(check_kept(unix_socket, all, no_users).ok());
  EXPECT_TRUE(check_kept(tcp, all, no_users).ok()) << "users are of unix sockets";
  EXPECT_FALSE(check_kept(tcp, {.rules = true}, {.tls = true}).ok());
  EXPECT_FALSE(check_kept(tcp, {.tls = true}, {.rules = true}).ok());
  EXPECT_TRUE(check_kept(tcp, {.tls = true}, {.plain_meant = true}).ok()) << "--tls off";
  const SocketAddress network = *SocketAddress::parse("tcp::1");
  EXPECT_FALSE(check_network(network, {}).ok());
  EXPECT_FALSE(check_network(network, {.users = true}).ok());
  EXPECT_TRUE(check_network(tcp, {}).ok());
  EXPECT_TRUE(check_network(network, {.tls = true}).ok());
  EXPECT_TRUE(check_network(network, {.plain_meant = true}).ok());
}

TEST_P(ParkingTest, ADiskThatIsNotWhatTheClientWasToldIsRefused) {
  Stream& client = transmitting();
  settle();
  Result<ParkedServer> parked = park();
  ASSERT_TRUE(parked.ok());
  spy_.mutable_info().size_bytes -= 512;
  const Status resumed = second_->resume(*std::move(parked));
  EXPECT_EQ(resumed.error().code(), ErrorCode::kMismatch);
  EXPECT_TRUE(is_cut(client)) << "not served wrongly";
}

TEST_P(ParkingTest, StragglersAreCutWhereOthersWouldBeLostWithThem) {
  Stream& late = transmitting();
  send(late, request(0, kWrite, 9, 0, 4 << 20));
  Stream& unread = transmitting();
  for (unsigned i = 0; i < 8; ++i) send(unread, request(0, kRead, i, i << 20, 1 << 20));
  Stream& good = transmitting();
  settle();
  Result<ParkedServer> parked = park(5s, Stragglers::kCut);
  ASSERT_TRUE(parked.ok()) << parked.error().message();
  EXPECT_EQ(parked->clients.size(), 1u);
  ASSERT_TRUE(second_->resume(*std::move(parked)).ok());
  send(good, request(0, kRead, 9, 0, 512));
  EXPECT_EQ(receive(good, 16 + 512), simple_reply(0, 9, peek(0, 512)));
  EXPECT_TRUE(is_cut(late));
}

TEST_P(ParkingTest, WhoSendsAPayloadThatIsRefusedIsAStragglerToo) {
  Stream& late = transmitting();
  send(late, request(0, kWrite, 9, 16 << 20, 4 << 20));  // beyond the end, and not the payload
  transmitting();
  settle();
  Result<ParkedServer> parked = park(1h, Stragglers::kCut);
  ASSERT_TRUE(parked.ok()) << parked.error().message();
  EXPECT_EQ(parked->clients.size(), 1u);
  EXPECT_TRUE(is_cut(late));
  EXPECT_TRUE(second_->resume(*std::move(parked)).ok());
}

TEST_P(ParkingTest, WhatFailsIsCountedOnceHoweverOften) {
  Stream& client = transmitting();
  send(client, request(0, kRead, 1, 16 << 20, 512));
  receive(client, 16);
  send(client, request(0, kRead, 2, 0, 512));
  receive(client, 16 + 512);
  Stream& late = transmitting();
  send(late, request(0, kWrite, 9, 0, 4 << 20));  // and not the payload
  for (int i = 0; i < 3; ++i) {
    settle();
    const NbdServerStats stats = first_->stats();
    EXPECT_EQ(stats.accepted, 2u);
    EXPECT_EQ(stats.refused_requests, 1u);
    const ClientCounters counters = first_->clients().front().counters;
    EXPECT_EQ(counters.refused.value(), 1u);
    EXPECT_EQ(counters.errors.value(), 1u);
    EXPECT_EQ(counters.of(NbdOp::kRead), 2u);
    EXPECT_FALSE(park(30ms).ok());
  }
}

TEST_P(ParkingTest, WhoWaitsForItsStoreIsNoStraggler) {
  Stream& client = transmitting();
  Event answered(*loop_);
  spy_.flush_after = &answered;
  send(client, request(0, kFlush, 1, 0, 0));
  settle();
  TaskScope scope;
  std::optional<Result<ParkedServer>> parked;
  scope.spawn(park_into(parked));
  run_task(*loop_, sleep_for(*loop_, 1200ms));
  EXPECT_FALSE(parked) << "it waits longer than for a straggler";
  answered.set();
  EXPECT_EQ(receive(client, 16), simple_reply(0, 1));
  settle();
  ASSERT_TRUE(parked && parked->ok());
  ASSERT_TRUE(second_->resume(**std::move(parked)).ok());
}

TEST_P(ParkingTest, WhoHangsInAStoreIsCutWhereOthersWouldBeLostWithHim) {
  Stream& hung = transmitting();
  Event answered(*loop_);
  spy_.flush_after = &answered;
  send(hung, request(0, kFlush, 1, 0, 0));
  Stream& good = transmitting();
  settle();
  Result<ParkedServer> parked = park(1200ms, Stragglers::kCut);
  ASSERT_TRUE(parked.ok()) << parked.error().message();
  EXPECT_EQ(parked->clients.size(), 1u);
  EXPECT_TRUE(is_cut(hung));
  ASSERT_TRUE(second_->resume(*std::move(parked)).ok());
  send(good, request(0, kRead, 9, 0, 512));
  EXPECT_EQ(receive(good, 16 + 512), simple_reply(0, 9, peek(0, 512)));
  answered.set();
  settle();
  EXPECT_TRUE(first_->clients().empty());
}

TEST_P(ParkingTest, ClientsAreServedByTheRulesOfWhoGoesOnWithThem) {
  for (const bool by_user : {true, false}) {
    Stream& client = transmitting();
    settle();
    NbdServerOptions strict = options_;
    if (by_user) {
      strict.peers.allowed_uids = {::getuid() + 1};
    } else {
      NbdSecurityOptions rules;
      rules.allow = {"uid:" + std::to_string(::getuid() + 1) + " -> disk0"};
      strict.security = *make_nbd_security(rules);
    }
    second_ = make_nbd_server(*loop_, directory_, strict);
    Result<ParkedServer> parked = park();
    ASSERT_TRUE(parked.ok());
    EXPECT_EQ(second_->resume(*std::move(parked)).error().code(), ErrorCode::kPrecondition);
    EXPECT_TRUE(is_cut(client));
    run_task(*loop_, second_->stop(100ms));
    if (!by_user) break;
    first_ = make_nbd_server(*loop_, directory_, options_);
    ASSERT_TRUE(first_->listen(address_).ok());
  }
}

INSTANTIATE_TEST_SUITE_P(OtherThreads, ParkingTest, testing::Values(0, 2));

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
// What is counted of a client, and why it is said to be gone: every reason, by a peer that gives
// it.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "nbdserver/client_counters.h"
#include "nbdserver/server_stats.h"
#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
using Failure = NbdHandshakeFailure;

/// How a negotiation ends that sends this and then goes away.
std::optional<Failure> failure_of(const ByteVector& sent, bool leave = true) {
  SessionRig rig;
  auto& client = rig.connect();
  rig.exchange(client, sent);
  if (leave) client.stream->shutdown();
  rig.settle();
  EXPECT_TRUE(client.ended);
  EXPECT_FALSE(client.session->served());
  return client.session->handshake_failure();
}

TEST(ClientEnds, AClientThatLooksAroundAndLeavesIsNoFailure) {
  EXPECT_EQ(failure_of(join({client_flags(3), option(kOptAbort)})), std::nullopt);
  EXPECT_EQ(failure_of(join({client_flags(3), option(kOptList)})), std::nullopt);
  EXPECT_EQ(failure_of(join({client_flags(3), option(kOptList), option(kOptAbort)})), std::nullopt);
  EXPECT_EQ(failure_of(join({client_flags(3), option(99)})), std::nullopt)
      << "an option that nobody knows is a question, not a fault";
}

TEST(ClientEnds, EveryFailureOfTheNegotiationHasItsReason) {
  EXPECT_EQ(failure_of({}), Failure::kClosed);
  EXPECT_EQ(failure_of(client_flags(3)), Failure::kClosed);
  EXPECT_EQ(failure_of(client_flags(0xff), false), Failure::kProtocol);
  EXPECT_EQ(failure_of(join({client_flags(3), Wire().text("NOTMAGIC").fill(8, 0)}), false),
            Failure::kProtocol);
  EXPECT_EQ(failure_of(join({client_flags(3), option(kOptExportName, Wire().text("gone"))}), false),
            Failure::kUnknownExport);
  ByteVector many = client_flags(3);
  for (int i = 0; i < 200; ++i) many = join({many, option(kOptList)});
  EXPECT_EQ(failure_of(many, false), Failure::kLimit);
}

TEST(ClientEnds, WhoAsksForALateExportWaitsForIt) {
  for (const ByteVector& asks :
       {option(kOptGo, info_data("late", {3})), option(kOptExportName, Wire().text("late"))}) {
    SessionRig rig;
    rig.directory.late_ = "late";
    auto& client = rig.connect();
    rig.receive(client);  // the greeting
    rig.send(client, join({client_flags(3), asks}));
    EXPECT_TRUE(rig.receive(client).empty());
    rig.directory.exports_.push_back(std::make_shared<FakeExport>("late", rig.spy));
    rig.settle(std::chrono::milliseconds(100));
    EXPECT_TRUE(client.session->served());
  }
}

TEST(ClientEnds, ALateExportThatDoesNotComeIsNobodysFailure) {
  for (const auto asked : {kOptGo, kOptInfo, kOptExportName}) {
    SessionRig rig;
    rig.directory.late_ = "late";
    auto& client = rig.connect();
    rig.receive(client);
    const bool old = asked == kOptExportName;
    rig.send(client, join({client_flags(3), old ? option(asked, Wire().text("late"))
                                                : option(asked, info_data("late", {}))}));
    EXPECT_TRUE(rig.receive(client).empty());
    rig.settle(std::chrono::seconds(5));
    const ByteVector answer = rig.receive(client);
    const std::string text(reinterpret_cast<const char*>(answer.data()), answer.size());
    EXPECT_EQ(text.find("\"late\" is late") == std::string::npos, old);
    client.stream->shutdown();
    rig.settle();
    EXPECT_TRUE(client.ended);
    EXPECT_EQ(client.session->handshake_failure(), std::nullopt);
  }
}

TEST(ClientEnds, NobodyWaitsForALateExportAtAnEnd) {
  SessionRig rig;
  rig.directory.late_ = "late";
  auto& client = rig.connect();
  rig.receive(client);
  rig.send(client, join({client_flags(3), option(kOptGo, info_data("late", {}))}));
  client.session->begin_shutdown();
  rig.settle(std::chrono::milliseconds(100));
  EXPECT_FALSE(rig.receive(client).empty());
}

TEST(ClientEnds, AnUnknownExportIsTheReasonHoweverTheClientLeaves) {
  const ByteVector asks = join({client_flags(3), option(kOptGo, info_data("gone", {}))});
  EXPECT_EQ(failure_of(asks), Failure::kUnknownExport);
  EXPECT_EQ(failure_of(join({asks, option(kOptAbort)})), Failure::kUnknownExport);
  EXPECT_EQ(failure_of(join({asks, option(kOptList), option(kOptAbort)})), std::nullopt)
      << "it went on to something else";
}

TEST(ClientEnds, WhoDoesNotComeToThePointIsTimedOut_I16) {
  SessionRig rig;
  auto& client = rig.connect();
  rig.settle(std::chrono::seconds(11));
  EXPECT_TRUE(client.ended);
  EXPECT_EQ(client.session->handshake_failure(), Failure::kTimeout);
}

TEST(ClientEnds, ServedClientsEndForTheirOwnReasons) {
  SessionRig rig;
  auto& left = rig.transmitting(Style::kSimple);
  rig.exchange(left, request(0, kDisc, 1, 0, 0));
  EXPECT_EQ(left.session->end(), NbdClientEnd::kLeft);

  auto& vanished = rig.transmitting(Style::kSimple);
  vanished.stream->shutdown();
  rig.settle();
  EXPECT_EQ(vanished.session->end(), NbdClientEnd::kLeft);

  auto& garbled = rig.transmitting(Style::kSimple);
  rig.exchange(garbled, pattern(28, 0x77));
  EXPECT_TRUE(garbled.ended);
  EXPECT_EQ(garbled.session->end(), NbdClientEnd::kProtocol);

  auto& absurd = rig.transmitting(Style::kSimple);
  rig.exchange(absurd, request(0, kWrite, 1, 0, 0xffffffff));
  EXPECT_TRUE(absurd.ended);
  EXPECT_EQ(absurd.session->end(), NbdClientEnd::kProtocol);

  auto& cut = rig.transmitting(Style::kSimple);
  cut.session->cut();
  rig.settle();
  EXPECT_EQ(cut.session->end(), NbdClientEnd::kCut);

  auto& stopped = rig.transmitting(Style::kSimple);
  stopped.session->begin_shutdown();
  rig.settle(std::chrono::seconds(1));
  EXPECT_EQ(stopped.session->end(), NbdClientEnd::kShutdown);
}

TEST(ClientCountersTest, CountRequestsByKindAndErrorsApart) {
  SessionRig rig;
  auto& client =
      rig.transmitting(Style::kStructured, {.capacity_bytes = 1 << 20}, {"base:allocation"});
  rig.exchange(client, request(0, kWrite, 1, 0, 4096, pattern(4096, 7)));
  rig.exchange(client, request(0, kRead, 2, 0, 512));
  rig.exchange(client, request(0, kRead, 3, 0, 100'000));
  rig.exchange(client, request(0, kFlush, 4, 0, 0));
  rig.exchange(client, request(0, kTrim, 5, 0, 4096));
  rig.exchange(client, request(0, kWriteZeroes, 6, 0, 4096));
  rig.exchange(client, request(0, kCache, 7, 0, 4096));
  rig.exchange(client, request(0, kBlockStatus, 8, 0, 4096));
  rig.exchange(client, request(0, 77, 9, 0, 0));
  rig.exchange(client, request(0, kRead, 10, 1ull << 40, 512));
  rig.spy.fail_flush = true;
  rig.exchange(client, request(0, kFlush, 11, 0, 0));

  const NbdClientInfo info = client.session->info();
  const ClientCounters& counters = info.counters;
  const std::vector<std::uint64_t> expected = {3, 1, 2, 1, 1, 1, 1, 1};
  for (std::size_t i = 0; i < kNbdOps.size(); ++i) {
    EXPECT_EQ(counters.of(kNbdOps[i]), expected[i]) << to_string(kNbdOps[i]);
  }
  EXPECT_EQ(info.requests, 11u);
  EXPECT_EQ(counters.refused.value(), 2u) << "an unknown command, a read beyond the end";
  EXPECT_EQ(counters.errors.value(), 3u) << "and the flush that failed";
  EXPECT_EQ(info.bytes_read, 100'512u);
  EXPECT_EQ(info.bytes_written, 4096u);
  EXPECT_EQ(info.in_flight, 0u);
}

TEST(ClientCountersTest, IdleTimeBeginsWithTheLastRequest) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  rig.settle(std::chrono::seconds(30));
  client.session->release_idle_memory();
  EXPECT_GE(client.session->info().idle, std::chrono::seconds(30));
  rig.exchange(client, request(0, kFlush, 1, 0, 0));
  EXPECT_EQ(client.session->info().idle, Duration::zero());
  client.session->release_idle_memory();
  rig.settle(std::chrono::seconds(5));
  client.session->release_idle_memory();
  EXPECT_GE(client.session->info().idle, std::chrono::seconds(5));
  EXPECT_LT(client.session->info().idle, std::chrono::seconds(6));
  EXPECT_GE(client.session->info().connected, std::chrono::seconds(35));
}

TEST(NbdNames, EveryReasonHasAName) {
  std::vector<std::string> names;
  for (const auto failure : kNbdHandshakeFailures) names.emplace_back(to_string(failure));
  for (const auto end : kNbdClientEnds) names.emplace_back(to_string(end));
  for (const auto op : kNbdOps) names.emplace_back(to_string(op));
  for (const std::string& name : names) EXPECT_FALSE(name.empty());
}

/// Remembers what it is told.
class Notes final : public NbdServerObserver {
 public:
  void on_handshake_failed(const NbdClientInfo& client, Failure failure) override {
    said.push_back(std::to_string(client.id) + " failed " + to_string(failure));
  }
  void on_connected(const NbdClientInfo& client) override {
    said.push_back(std::to_string(client.id) + " connected to " + client.export_name);
  }
  void on_gone(const NbdClientInfo& client, NbdClientEnd end) override {
    said.push_back(std::to_string(client.id) + " " + to_string(end) + " after " +
                   std::to_string(client.requests));
  }
  std::vector<std::string> said;
};

/// A server without listeners: tests hand it their ends of socket pairs.
class ServerStatsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = make_io_loop({.kind = LoopKind::kPortable});
    ASSERT_TRUE(made.ok());
    loop_ = std::move(*made);
    directory_.exports_.push_back(std::make_shared<FakeExport>("disk0", device_));
    NbdServerOptions options;
    options.limits.max_connections = 2;
    options.observer = &notes_;
    server_ = make_nbd_server(*loop_, directory_, options);
  }
  void TearDown() override {
    if (server_ != nullptr) run_task(*loop_, server_->stop(Duration::zero()));
    if (loop_ != nullptr) settle();
  }
  void settle() { run_task(*loop_, sleep_for(*loop_, std::chrono::milliseconds(20))); }
  std::unique_ptr<Stream> connect(const ByteVector& hello) {
    auto [ours, theirs] = make_pipe(*loop_, {.capacity_bytes = 1 << 20});
    tasks_.spawn(server_->serve_stream(std::move(theirs)));
    send(*ours, hello);
    return std::move(ours);
  }
  void send(Stream& stream, const ByteVector& bytes) {
    const ConstBytes part(bytes);
    static_cast<void>(run_task(*loop_, stream.write_all(std::span<const ConstBytes>(&part, 1))));
    settle();
  }

  std::unique_ptr<IoLoop> loop_;
  MemoryDevice device_{"memory", 1 << 20};
  FakeDirectory directory_;
  Notes notes_;
  std::unique_ptr<NbdServer> server_;
  TaskScope tasks_;
};

TEST_F(ServerStatsTest, TotalsOutliveTheirClientsAndTheObserverHearsOfEachOnce) {
  const ByteVector go = join({client_flags(3), option(kOptGo, info_data("disk0", {}))});
  auto served = connect(go);
  send(*served, request(0, kRead, 1, 1ull << 40, 512));  // refused
  EXPECT_EQ(server_->stats().served, 1u);
  EXPECT_EQ(server_->stats().refused_requests, 1u) << "while it is still there";
  send(*served, request(0, kDisc, 2, 0, 0));
  auto lost = connect(join({client_flags(3), option(kOptExportName, Wire().text("gone"))}));
  auto first = connect(go);
  auto second = connect(go);
  auto third = connect(go);  // above the limit

  const NbdServerStats stats = server_->stats();
  EXPECT_EQ(stats.accepted, 4u);
  EXPECT_EQ(stats.served, 3u);
  EXPECT_EQ(stats.refused_requests, 1u);
  EXPECT_EQ(stats.ended[static_cast<std::size_t>(NbdClientEnd::kLeft)], 1u);
  EXPECT_EQ(stats.handshake_failures[static_cast<std::size_t>(Failure::kUnknownExport)], 1u);
  EXPECT_EQ(stats.refused[static_cast<std::size_t>(NbdRefusalReason::kTooManyConnections)], 1u);
  const std::vector<std::string> said = {"1 connected to disk0", "1 left after 1",
                                         "2 failed unknown-export", "3 connected to disk0",
                                         "4 connected to disk0"};
  EXPECT_EQ(notes_.said, said);
}

}  // namespace
}  // namespace blockmig::nbd

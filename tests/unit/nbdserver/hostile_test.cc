// SPDX-License-Identifier: Apache-2.0
// Clients that misbehave or leave, and the limits: only the session concerned is harmed.
#include <gtest/gtest.h>

#include "session_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;

TEST(Hostile, BadRequestMagicCloses) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, join({request(0, kFlush, 1, 0, 0), pattern(28, 0x25)})),
            simple_reply(0, 1));
  EXPECT_TRUE(client.saw_eof);
  EXPECT_TRUE(client.ended);
}

TEST(Hostile, DiscIsNotAnsweredAndLaterBytesAreIgnored) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  EXPECT_EQ(rig.exchange(client, join({request(0, kFlush, 1, 0, 0), request(0, kDisc, 2, 0, 0),
                                       request(0, kWrite, 3, 0, 1, pattern(1, 1))})),
            simple_reply(0, 1));
  EXPECT_TRUE(client.saw_eof);
  EXPECT_TRUE(client.ended);
  EXPECT_EQ(rig.spy.writes, 0);
}

TEST(Hostile, AnAbsurdWriteLengthDrops) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_TRUE(rig.exchange(client, request(0, kWrite, 1, 0, 0xffffffff)).empty());
  EXPECT_TRUE(client.saw_eof);
  EXPECT_LT(rig.loops.home().pool.total_bytes(), 2u << 20);
}

TEST(Hostile, VanishingInAPayloadWritesNothing) {
  for (const std::uint32_t size : {1000u, 100000u, 1000000u}) {
    SessionRig rig;
    auto& client = rig.transmitting(Style::kSimple);
    rig.send(client, request(0, kWrite, 1, 0, size, pattern(size - 1, 0x66)));
    EXPECT_FALSE(client.ended);
    client.stream->shutdown();
    rig.settle();
    EXPECT_TRUE(client.ended);
    EXPECT_EQ(rig.spy.writes, 0);
  }
}

TEST(Hostile, VanishingInAHeaderOrTheHandshakeEndsTheSession) {
  SessionRig rig;
  auto& transmitting = rig.transmitting(Style::kSimple);
  rig.send(transmitting, Wire().u32(0x25609513).u16(0));
  auto& greeted = rig.connect();
  auto& half = rig.connect();
  rig.send(half, join({client_flags(3), Wire().text("IHAVE")}));
  EXPECT_FALSE(transmitting.ended || greeted.ended || half.ended);
  for (auto* each : {&transmitting, &greeted, &half}) each->stream->shutdown();
  rig.settle();
  EXPECT_TRUE(transmitting.ended && greeted.ended && half.ended);
}

TEST(Hostile, HandshakeHasADeadline_I16) {
  SessionRig rig;
  auto& silent = rig.connect();
  auto& slow = rig.connect();
  auto& done = rig.transmitting(Style::kSimple);
  for (int i = 0; i < 30; ++i) {
    rig.send(slow, i == 0 ? client_flags(3) : option(kOptList));
    rig.receive(slow);
    rig.settle(std::chrono::milliseconds(500));
  }
  EXPECT_TRUE(silent.ended);
  EXPECT_TRUE(slow.ended);
  EXPECT_FALSE(done.ended) << "a client that transmits may stay for ever";
  EXPECT_EQ(rig.exchange(done, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1));
}

TEST(Hostile, AClientThatDoesNotReadItsListIsCutToo_I16) {
  SessionRig rig;
  for (int i = 0; i < 2000; ++i) {
    rig.directory.exports_.push_back(
        std::make_shared<FakeExport>("other" + std::to_string(i) + std::string(100, 'x'), rig.spy));
  }
  auto& client = rig.connect({.capacity_bytes = 4096});
  rig.send(client, join({client_flags(3), option(kOptList)}));
  rig.settle(std::chrono::seconds(11));
  EXPECT_TRUE(client.ended);
}

TEST(Hostile, GarbageOfEveryKindEndsOnlyItsSession) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SessionRig rig(seed);
    auto& healthy = rig.transmitting(Style::kSimple);
    auto& client = seed % 2 == 0 ? rig.transmitting(Style::kStructured, {}, {"base:allocation"})
                                 : rig.connect();
    ByteVector garbage(rig.random.between(1, 3000));
    for (auto& byte : garbage) byte = static_cast<std::byte>(rig.random.next());
    rig.send(client, garbage);
    rig.receive(client);
    client.stream->shutdown();
    rig.settle();
    EXPECT_TRUE(client.ended) << seed;
    EXPECT_EQ(rig.exchange(healthy, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1)) << seed;
  }
}

TEST(Hostile, DamagedValidTrafficEndsOnlyItsSession) {
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    SessionRig rig(seed);
    auto& healthy = rig.transmitting(Style::kSimple);
    auto& client = rig.connect();
    ByteVector traffic =
        join({client_flags(3), option(kOptStructured),
              option(kOptSetMeta, meta_data("disk0", {"base:allocation"})),
              option(kOptGo, info_data("disk0", {3})), request(0, kRead, 1, 0, 5000),
              request(0, kWrite, 2, 100, 700, pattern(700, 3)),
              request(0, kBlockStatus, 3, 0, 65536), request(0, kTrim, 4, 0, 4096),
              request(0, kWriteZeroes, 5, 0, 4096), request(0, kDisc, 6, 0, 0)});
    for (std::uint64_t flips = rig.random.between(1, 4); flips > 0; --flips) {
      traffic[rig.random.below(traffic.size())] ^=
          static_cast<std::byte>(1u << rig.random.below(8));
    }
    rig.send(client, traffic);
    rig.receive(client);
    client.stream->shutdown();
    rig.settle();
    EXPECT_TRUE(client.ended) << seed;
    EXPECT_EQ(rig.exchange(healthy, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1)) << seed;
  }
}

TEST(Hostile, AClientThatNeverReadsCostsBoundedMemoryAndHarmsNobody) {
  SessionRig rig(1, 64 << 20);
  rig.limits.max_in_flight_bytes = 4 << 20;
  auto& deaf = rig.transmitting(Style::kSimple, {.capacity_bytes = 64 * 1024});
  Wire requests;
  for (std::uint64_t i = 0; i < 100; ++i) requests.add(request(0, kRead, i, i * 4096, 300000));
  rig.send(deaf, requests);
  rig.settle(std::chrono::seconds(5));
  EXPECT_LE(deaf.session->info().in_flight, 14u);
  EXPECT_LT(rig.loops.home().pool.total_bytes(), 12u << 20);
  auto& healthy = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(healthy, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1));
  // When it reads after all, it gets everything.
  std::size_t got = 0;
  for (int i = 0; i < 300 && got < 100 * 300016u; ++i) got += rig.receive(deaf).size();
  EXPECT_EQ(got, 100 * 300016u);
}

TEST(Hostile, AClientThatSendsWithoutReadingIsHeldAtTheRequestLimit) {
  SessionRig rig;
  rig.limits.max_in_flight_requests = 16;
  auto& deaf = rig.transmitting(Style::kSimple, {.capacity_bytes = 200});
  Wire requests;
  for (std::uint64_t i = 0; i < 1000; ++i) requests.add(request(0, kFlush, i, 0, 0));
  rig.send(deaf, requests);
  EXPECT_LE(deaf.session->info().in_flight, 16u);
  EXPECT_LT(rig.spy.flushes, 50);
  std::size_t got = 0;
  for (int i = 0; i < 2000 && got < 16000; ++i) got += rig.receive(deaf).size();
  EXPECT_EQ(got, 16000u);
  EXPECT_EQ(rig.spy.flushes, 1000);
}

TEST(Hostile, AClientThatSendsAllBeforeItReadsIsServedWithinTheLimits) {
  // Reads worth 8 MiB, then a large write, and only then does it read: no deadlock.
  SessionRig rig(1, 64 << 20);
  auto& client = rig.transmitting(Style::kSimple, {.capacity_bytes = 64 * 1024});
  Wire requests;
  for (std::uint64_t i = 0; i < 8; ++i) requests.add(request(0, kRead, i, i << 20, 1 << 20));
  requests.add(request(0, kWrite, 8, 32 << 20, 1 << 20, pattern(1 << 20, 5)));
  rig.send(client, requests);
  rig.settle(std::chrono::seconds(1));
  EXPECT_EQ(rig.spy.writes, 1);
  std::size_t got = 0;
  for (int i = 0; i < 1000 && got < 8 * (16u + (1 << 20)) + 16; ++i)
    got += rig.receive(client).size();
  EXPECT_EQ(got, 8 * (16u + (1 << 20)) + 16);
}

}  // namespace
}  // namespace blockmig::nbd

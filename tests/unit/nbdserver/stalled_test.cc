// SPDX-License-Identifier: Apache-2.0
// Devices that stand still or are slow, shutdown with requests in flight, idle memory.
#include <gtest/gtest.h>

#include <algorithm>

#include "blockmig/block/forwarding_device.h"
#include "stalled_rig.h"

namespace blockmig::nbd {
namespace {

using Style = SessionRig::Style;
constexpr std::uint64_t kSize = SessionRig::kDiskBytes;

TEST(Stalled, DiscWaitsForWhatIsInFlightAndItsRepliesAreSent) {
  StalledRig rig;
  auto& client = rig.client();
  rig.store.stall();
  EXPECT_TRUE(rig.exchange(client, join({request(0, kWrite, 1, 0, 3, pattern(3, 1)),
                                         request(0, kDisc, 2, 0, 0)}))
                  .empty());
  EXPECT_FALSE(client.ended);
  rig.store.unstall();
  EXPECT_EQ(rig.receive(client), simple_reply(0, 1));
  EXPECT_TRUE(client.saw_eof);
  EXPECT_TRUE(client.ended);
}

TEST(Stalled, VanishingWithRequestsInFlightLosesNoBufferAndTheWriteLands) {
  StalledRig rig;
  auto& client = rig.client();
  rig.store.stall();
  rig.send(client, join({request(0, kWrite, 1, 0, 70000, pattern(70000, 9)),
                         request(0, kRead, 2, 0, 100000), request(0, kFlush, 3, 0, 0)}));
  client.stream->shutdown();
  rig.settle(std::chrono::seconds(1));
  EXPECT_FALSE(client.ended) << "the device still has the session's buffers";
  rig.store.unstall();
  rig.settle();
  EXPECT_TRUE(client.ended);
  ByteVector written(70000);
  rig.store.peek(0, written);
  EXPECT_EQ(written, pattern(70000, 9));
}

/// A write that waits for memory, all of which somebody has who does not send.
class WaitingWrite : public testing::Test {
 protected:
  void SetUp() override {
    rig.send(holder, request(0, kWrite, 1, 0, 1 << 20));
    rig.send(client, request(0, kWrite, 2, 0, 100000, pattern(100000, 2)));
    EXPECT_EQ(client.session->info().in_flight, 0u);
  }
  void expect_that_it_is_never_done() {
    rig.settle();
    EXPECT_TRUE(client.ended);
    holder.stream->shutdown();
    rig.settle(std::chrono::seconds(1));
    ByteVector there(100000);
    rig.store.peek(0, there);
    EXPECT_EQ(there, pattern(100000, 0));
  }
  StalledRig rig{1 << 20};
  SessionRig::Connection& holder = rig.client();
  SessionRig::Connection& client = rig.client();
};

// Others may write there meanwhile, and are told so.
TEST_F(WaitingWrite, IsNotBegunOnceItsClientIsCut_Trap15) {
  client.session->cut();
  expect_that_it_is_never_done();
}

TEST_F(WaitingWrite, IsNotBegunOnceItsClientIsGone_Trap15) {
  for (int sweep = 0; sweep < 3; ++sweep) client.session->release_idle_memory();
  client.stream->shutdown();
  client.session->release_idle_memory();
  expect_that_it_is_never_done();
}

TEST_F(WaitingWrite, IsNotBegunWhenTheMemoryComesAfterItsClientHasGone_Trap15) {
  client.stream->shutdown();
  holder.stream->shutdown();
  expect_that_it_is_never_done();
}

TEST_F(WaitingWrite, IsDoneWhenTheMemoryComes) {
  holder.stream->shutdown();
  EXPECT_EQ(rig.receive(client), simple_reply(0, 2));
}

TEST(Stalled, AFrozenExportDoesNotStopOtherExportsNorTheControl_I10) {
  StalledRig rig;
  auto& frozen = rig.client();
  rig.store.stall();
  rig.send(frozen, request(0, kRead, 1, 0, 512));
  auto& healthy = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(healthy, request(0, kFlush, 1, 0, 0)), simple_reply(0, 1));
  EXPECT_EQ(frozen.session->info().in_flight, 1u);
  rig.store.unstall();
  EXPECT_EQ(rig.receive(frozen).size(), 16u + 512);
}

TEST(Stalled, AFrozenStoreIsSentNoMoreThanTheLimits) {
  StalledRig rig;
  rig.limits.max_in_flight_requests = 10;
  rig.limits.max_in_flight_bytes = 2 << 20;
  auto& client = rig.client();
  rig.store.stall();
  Wire requests;
  for (std::uint64_t i = 0; i < 100; ++i) {
    requests.add(request(0, kWrite, i, 0, 300, pattern(300, 2)));
  }
  rig.send(client, requests);
  EXPECT_EQ(rig.store.in_flight(), 10u);
  EXPECT_EQ(client.session->info().in_flight, 10u);
  rig.store.unstall();
  EXPECT_EQ(rig.receive(client).size(), 1600u);
  rig.store.stall();
  Wire large;
  for (std::uint64_t i = 0; i < 8; ++i) {
    large.add(request(0, kWrite, i, 0, 900000, pattern(900000, 2)));
  }
  rig.send(client, large);
  EXPECT_EQ(rig.store.in_flight(), 2u);
  EXPECT_LT(rig.loops.home().pool.total_bytes(), 8u << 20);
  rig.store.unstall();
  EXPECT_EQ(rig.receive(client).size(), 8 * 16u);
}

TEST(Stalled, ARequestLargerThanTheWholeLimitIsAdmittedAlone) {
  SessionRig rig;
  rig.limits.max_in_flight_bytes = 1000;
  auto& client = rig.transmitting(Style::kSimple);
  EXPECT_EQ(rig.exchange(client, join({request(0, kWrite, 1, 0, 500000, pattern(500000, 1)),
                                       request(0, kRead, 2, 0, 400000)}))
                .size(),
            16u + 16 + 400000);
}

TEST(Stalled, RepliesLeaveInTheOrderOfCompletion) {
  StalledRig rig;
  rig.store.plan().min_delay = std::chrono::microseconds(10);
  rig.store.plan().max_delay = std::chrono::milliseconds(20);
  auto& client = rig.client();
  Wire requests;
  for (std::uint64_t i = 0; i < 64; ++i) {
    requests.add(
        request(0, kWrite, i, i * 4096, 4096, pattern(4096, static_cast<std::uint8_t>(i))));
  }
  rig.send(client, requests);
  rig.settle(std::chrono::milliseconds(50));
  const ByteVector replies = rig.receive(client);
  ASSERT_EQ(replies.size(), 64 * 16u);
  std::vector<std::uint64_t> cookies;
  for (std::size_t at = 0; at < replies.size(); at += 16) {
    EXPECT_EQ(read_be(replies, at, 4), 0x67446698u);
    EXPECT_EQ(read_be(replies, at + 4, 4), 0u);
    cookies.push_back(read_be(replies, at + 8, 8));
  }
  EXPECT_FALSE(std::is_sorted(cookies.begin(), cookies.end()));
  std::sort(cookies.begin(), cookies.end());
  for (std::uint64_t i = 0; i < 64; ++i) EXPECT_EQ(cookies[i], i);
}

TEST(Stalled, PayloadsStayIntactUntilTheDeviceHasTakenThem_Trap16) {
  // The receive buffer goes round several times while the first writes are still under way.
  StalledRig rig;
  rig.store.plan().min_delay = std::chrono::milliseconds(1);
  rig.store.plan().max_delay = std::chrono::milliseconds(30);
  auto& client = rig.client();
  Wire requests;
  for (std::uint64_t i = 0; i < 600; ++i) {
    requests.add(request(0, kWrite, i, (i % 250) * 4096, 4096,
                         pattern(4096, static_cast<std::uint8_t>(i % 250 + 1))));
  }
  rig.send(client, requests);
  std::size_t got = 0;
  for (int i = 0; i < 200 && got < 9600; ++i) {
    rig.settle(std::chrono::milliseconds(10));
    got += rig.receive(client).size();
  }
  EXPECT_EQ(got, 9600u);
  for (std::uint64_t i = 0; i < 250; ++i) {
    ByteVector block(4096);
    rig.store.peek(i * 4096, block);
    EXPECT_EQ(block, pattern(4096, static_cast<std::uint8_t>(i + 1))) << i;
  }
}

/// Notes which large writes come in memory that O_DIRECT would take.
class NotesAlignment final : public ForwardingDevice {
 public:
  explicit NotesAlignment(BlockDevice& below) : ForwardingDevice(below) {}
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    aligned.push_back(reinterpret_cast<std::uintptr_t>(from.data()) % 4096 == 0);
    return ForwardingDevice::write(offset, from, flags);
  }
  std::vector<bool> aligned;
};

TEST(Stalled, PayloadsForAStoreThatWaitsAreReceivedAligned) {
  StalledRig rig;
  rig.store.plan().min_delay = std::chrono::milliseconds(1);
  NotesAlignment noting(rig.store);
  rig.directory.exports_.push_back(std::make_shared<FakeExport>("noting", noting));
  auto& client = rig.connect({.capacity_bytes = 1 << 20});
  rig.exchange(client, join({client_flags(3), option(kOptGo, info_data("noting", {}))}));
  constexpr std::size_t kLength = 32 * 1024;
  for (std::uint64_t i = 0; i < 8; ++i) {
    // In pieces, as a slow link brings them, with a small request in between.
    const ByteVector data = pattern(kLength, static_cast<std::uint8_t>(i + 1));
    const ByteVector bytes = join(
        {request(0, kWrite, i, i * kLength, kLength, data), request(0, kRead, 100 + i, 0, 512)});
    const std::size_t cut = 100 + static_cast<std::size_t>(i) * 4000;
    rig.send(client, ByteVector(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(cut)));
    rig.settle(std::chrono::milliseconds(3));
    rig.send(client, ByteVector(bytes.begin() + static_cast<std::ptrdiff_t>(cut), bytes.end()));
    rig.settle(std::chrono::milliseconds(10));
    EXPECT_EQ(rig.receive(client).size(), 16u + 16 + 512);
    ByteVector block(kLength);
    rig.store.peek(i * kLength, block);
    EXPECT_EQ(block, data) << i;
  }
  ASSERT_EQ(noting.aligned.size(), 8u);
  for (std::size_t i = 1; i < 8; ++i) EXPECT_TRUE(noting.aligned[i]) << i;
  rig.close_all();
}

TEST(Shutdown, RequestsInFlightFinishAndNewOnesGetEshutdown) {
  StalledRig rig;
  auto& client = rig.client();
  rig.store.stall();
  rig.send(client, request(0, kWrite, 1, 0, 3, pattern(3, 7)));
  client.session->begin_shutdown();
  EXPECT_EQ(rig.exchange(client, join({request(0, kRead, 2, 0, 1),
                                       request(0, kWrite, 3, 0, 2, pattern(2, 8))})),
            join({simple_reply(kESHUTDOWN, 2), simple_reply(kESHUTDOWN, 3)}));
  EXPECT_FALSE(client.ended);
  rig.settle(std::chrono::milliseconds(20));
  EXPECT_FALSE(client.ended);
  rig.store.unstall();
  EXPECT_EQ(rig.receive(client), simple_reply(0, 1));
  EXPECT_TRUE(client.saw_eof);
  EXPECT_TRUE(client.ended);
}

TEST(Shutdown, AnIdleClientIsClosed) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kStructured);
  client.session->begin_shutdown();
  client.session->begin_shutdown();
  rig.settle(std::chrono::milliseconds(20));
  EXPECT_TRUE(rig.receive(client).empty());
  EXPECT_TRUE(client.ended);
}

TEST(Shutdown, ANegotiatingClientIsRefused) {
  SessionRig rig;
  auto& client = rig.connect();
  EXPECT_EQ(rig.receive(client), greeting());
  rig.send(client, client_flags(3));
  client.session->begin_shutdown();
  const ByteVector answer = rig.exchange(client, option(kOptGo, info_data("disk0", {})));
  ASSERT_GE(answer.size(), 20u);
  EXPECT_EQ(read_be(answer, 12, 4), kErrShutdown);
  EXPECT_EQ(rig.exchange(client, option(kOptAbort)), option_reply(kOptAbort, kRepAck));
  EXPECT_TRUE(client.ended);
}

TEST(Shutdown, ALongCacheHintDoesNotHoldIt) {
  StalledRig rig;
  rig.store.plan().min_delay = std::chrono::milliseconds(5);
  rig.store.plan().max_delay = std::chrono::milliseconds(5);
  auto& client = rig.client();
  rig.send(client, request(0, kCache, 1, 0, kSize));
  client.session->begin_shutdown();
  rig.settle(std::chrono::milliseconds(20));
  EXPECT_TRUE(client.ended);
}

/// A second for each piece of CACHE: five for all of the disk.
class SlowCache : public testing::Test {
 protected:
  SlowCache() {
    rig_.limits.max_in_flight_requests = 4;
    rig_.store.plan().min_delay = rig_.store.plan().max_delay = std::chrono::seconds(1);
  }
  ByteVector hints(int count) {
    ByteVector all;
    for (int i = 0; i < count; ++i) all = join({all, request(0, kCache, 1, 0, kSize)});
    return all;
  }
  StalledRig rig_;
};

TEST_F(SlowCache, HintsOfAClientAreTakenOneByOne) {
  auto& client = rig_.client();
  rig_.send(client, hints(3));
  EXPECT_EQ(rig_.store.in_flight(), 1u);
  rig_.settle(std::chrono::seconds(16));
  EXPECT_EQ(rig_.receive(client).size(), 3 * simple_reply(0, 1).size());
}

TEST_F(SlowCache, HintsEndWithTheirClientAlsoWhereTheIntakeWaitsForRoom) {
  auto& client = rig_.client();
  rig_.send(client, hints(100));
  client.stream->shutdown();
  rig_.settle(std::chrono::seconds(2));
  EXPECT_TRUE(client.ended);
}

TEST_F(SlowCache, HintsEndWhenTheirClientIsCutOff) {
  auto& client = rig_.client();
  rig_.send(client, hints(100));
  client.session->cut();
  rig_.settle(std::chrono::seconds(2));
  EXPECT_TRUE(client.ended);
}

TEST(Shutdown, CutEndsAClientThatDoesNotRead) {
  SessionRig rig;
  auto& deaf = rig.transmitting(Style::kSimple, {.capacity_bytes = 100});
  rig.send(deaf, request(0, kRead, 1, 0, 500000));
  deaf.session->begin_shutdown();
  rig.settle(std::chrono::seconds(1));
  EXPECT_FALSE(deaf.ended);
  deaf.session->cut();
  rig.settle();
  EXPECT_TRUE(deaf.ended);
}

TEST(IdleMemory, IsGivenBackAndTheConnectionGoesOn) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  rig.exchange(client, request(0, kWrite, 1, 0, 500000, pattern(500000, 0x31)));
  client.session->release_idle_memory();
  EXPECT_EQ(
      rig.exchange(client, join({request(0, kWrite, 2, 7, 90000, pattern(90000, 0x32)),
                                 request(0, kRead, 3, 6, 3)})),
      join({simple_reply(0, 2), simple_reply(0, 3, join({pattern(1, 0x31), pattern(2, 0x32)}))}));
}

TEST(IdleMemory, NothingIsForgottenInTheMiddleOfARequest) {
  SessionRig rig;
  auto& client = rig.transmitting(Style::kSimple);
  const ByteVector whole = request(0, kWrite, 1, 0, 60000, pattern(60000, 0x44));
  rig.send(client, ByteVector(whole.begin(), whole.begin() + 30000));
  client.session->release_idle_memory();
  EXPECT_EQ(rig.exchange(client, ByteVector(whole.begin() + 30000, whole.end())),
            simple_reply(0, 1));
  EXPECT_EQ(rig.peek(0, 60000), pattern(60000, 0x44));
}

}  // namespace
}  // namespace blockmig::nbd

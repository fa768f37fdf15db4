// SPDX-License-Identifier: Apache-2.0
// TlsStream as a Stream: data, ends, accidents, over a pipe on the simulated loop.
#include "blockmig/tls/tls_stream.h"

#include <gmock/gmock.h>

#include "tls_rig.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

class TlsStreamTest : public testing::Test {
 protected:
  TlsPair& secured(const PipeOptions& options = {.capacity_bytes = 1 << 20},
                   std::uint64_t seed = 1) {
    pair_ = std::make_unique<TlsPair>(psk_server(), psk_client(), "", options, seed);
    pair_->shake();
    EXPECT_TRUE(pair_->secured()) << pair_->server_error();
    return *pair_;
  }
  std::unique_ptr<TlsPair> pair_;
};

TEST_F(TlsStreamTest, DataGoesBothWaysAtOnce) {
  TlsPair& pair = secured();
  const Bytes up = counted_bytes(3'000'001, 7);
  const Bytes down = counted_bytes(2'000'003, 11);
  pair.send(*pair.client, up);
  pair.send(*pair.server, down);
  EXPECT_EQ(pair.receive(*pair.server, up.size()), up);
  EXPECT_EQ(pair.receive(*pair.client, down.size()), down);
}

TEST_F(TlsStreamTest, EveryHandshakeAndRecordSurvivesOneByteSegments) {
  TlsPair& pair = secured({.capacity_bytes = 100, .segment_bytes = 1});
  const Bytes data = counted_bytes(40'000);
  pair.send(*pair.client, data);
  EXPECT_EQ(pair.receive(*pair.server, data.size()), data);
  pair.send(*pair.server, data);
  EXPECT_EQ(pair.receive(*pair.client, data.size()), data);
}

TEST_F(TlsStreamTest, ManyOrdersOfEventsAndSegmentSizes) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    TlsPair& pair = secured({.capacity_bytes = 50 + 997 * seed, .segment_bytes = 13 * seed}, seed);
    const Bytes data = counted_bytes(100'000 + 77 * seed);
    pair.send(*pair.client, data);
    pair.send(*pair.server, data);
    EXPECT_EQ(pair.receive(*pair.server, data.size()), data) << seed;
    EXPECT_EQ(pair.receive(*pair.client, data.size()), data) << seed;
  }
}

TEST_F(TlsStreamTest, TryReadTakesWhatIsThereAndNeverWaits) {
  TlsPair& pair = secured();
  Bytes into(100'000);
  bool ended = false;
  auto got = pair.server->try_read(into, &ended);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, 0u);
  EXPECT_FALSE(ended);
  pair.send(*pair.client, counted_bytes(50'000));
  pair.settle();
  got = pair.server->try_read(into, &ended);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, 50'000u) << "all records that have arrived";
  pair.client->shutdown();
  got = pair.server->try_read(into, &ended);
  ASSERT_TRUE(got.ok());
  EXPECT_EQ(*got, 0u);
  EXPECT_TRUE(ended);
}

TEST_F(TlsStreamTest, WritesLeaveInFewLargeSends) {
  TlsPair& pair = secured();
  pair.server_wire->writes.clear();
  pair.send(*pair.server, counted_bytes(512 * 1024));
  pair.receive(*pair.client, 512 * 1024);
  EXPECT_EQ(pair.server_wire->writes.size(), 2u);
}

TEST_F(TlsStreamTest, ShutdownSaysGoodbyeAndThePeerSeesAnOrderlyEnd) {
  TlsPair& pair = secured();
  pair.send(*pair.server, text_bytes("last"));
  pair.settle();
  pair.server->shutdown();
  EXPECT_FALSE(pair.server_wire->last_words.empty());
  EXPECT_EQ(pair.receive(*pair.client, 4), text_bytes("last"));
  Bytes one(1);
  const auto end = run_task(pair.loop, pair.client->read_some(one));
  ASSERT_TRUE(end.ok()) << end.error().message();
  EXPECT_EQ(*end, 0u);
}

TEST_F(TlsStreamTest, AnEndWithoutGoodbyeIsAnError) {
  TlsPair& pair = secured();
  pair.client_wire->shutdown();
  Bytes one(1);
  const auto end = run_task(pair.loop, pair.server->read_some(one));
  ASSERT_FALSE(end.ok());
  EXPECT_EQ(end.error().code(), ErrorCode::kDisconnected);
  bool ended = false;
  EXPECT_FALSE(pair.server->try_read(one, &ended).ok());
}

TEST_F(TlsStreamTest, ARecordThatIsCutIsNeverDelivered) {
  TlsPair& pair = secured();
  pair.client_wire->cut_at = pair.client_wire->written + 500;
  pair.send(*pair.client, counted_bytes(1000));
  Bytes into(1000);
  const auto got = run_task(pair.loop, pair.server->read_some(into));
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), ErrorCode::kDisconnected);
}

TEST_F(TlsStreamTest, AFlippedBitEndsTheConnectionAndThePeerIsTold) {
  TlsPair& pair = secured();
  pair.send(*pair.client, text_bytes("good"));
  EXPECT_EQ(pair.receive(*pair.server, 4), text_bytes("good"));
  pair.client_wire->flip_at = pair.client_wire->written + 20;
  pair.send(*pair.client, counted_bytes(100));
  Bytes into(100);
  const auto got = run_task(pair.loop, pair.server->read_some(into));
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code(), ErrorCode::kProtocol);
  EXPECT_FALSE(pair.server_wire->last_words.empty()) << "the alert";
  const auto told = run_task(pair.loop, pair.client->read_some(into));
  ASSERT_FALSE(told.ok());
  EXPECT_THAT(told.error().message(), HasSubstr("the peer refused"));
  // And it stays broken in both directions.
  EXPECT_FALSE(run_task(pair.loop, pair.server->read_some(into)).ok());
  pair.send(*pair.server, text_bytes("more"));
  pair.settle();
  ASSERT_TRUE(pair.sent);
  EXPECT_FALSE(pair.sent->ok());
}

TEST_F(TlsStreamTest, ShutdownWakesAReaderAndAWriter) {
  TlsPair& pair = secured({.capacity_bytes = 8192});
  Bytes into(10);
  std::optional<Result<std::size_t>> read;
  const auto reading = [&]() -> Task<void> {
    auto got = co_await pair.server->read_some(into);
    read.emplace(std::move(got));
  };
  pair.scope.spawn(reading());
  pair.send(*pair.server, counted_bytes(1 << 20));
  pair.settle();
  EXPECT_FALSE(read);
  EXPECT_FALSE(pair.sent);
  pair.server->shutdown();
  pair.settle();
  ASSERT_TRUE(read && read->ok());
  EXPECT_EQ(**read, 0u);
  ASSERT_TRUE(pair.sent);
  EXPECT_EQ(pair.sent->error().code(), ErrorCode::kDisconnected);
  EXPECT_TRUE(pair.server_wire->last_words.empty()) << "nothing goes between parts of a record";
}

TEST_F(TlsStreamTest, AfterShutdownNothingGoes) {
  TlsPair& pair = secured();
  pair.server->shutdown();
  pair.server->shutdown();
  Bytes one(1);
  EXPECT_EQ(*run_task(pair.loop, pair.server->read_some(one)), 0u);
  bool ended = false;
  EXPECT_EQ(*pair.server->try_read(one, &ended), 0u);
  EXPECT_TRUE(ended);
  pair.send(*pair.server, text_bytes("x"));
  pair.settle();
  EXPECT_EQ(pair.sent->error().code(), ErrorCode::kDisconnected);
}

TEST_F(TlsStreamTest, APeerThatDoesNotReadCostsABoundedAmount) {
  TlsPair& pair = secured({.capacity_bytes = 4096});
  pair.send(*pair.server, counted_bytes(16 << 20));
  pair.settle();
  EXPECT_FALSE(pair.sent) << "the writer waits";
  ASSERT_FALSE(pair.server_wire->writes.empty());
  EXPECT_EQ(pair.server_wire->writes.size(), 2u) << "the handshake's flight and one seal, no more";
  EXPECT_LE(pair.server_wire->writes.back(), TlsSession::kMaxSealBytes + 32 * 1024);
}

TEST_F(TlsStreamTest, MemoryIsGivenBackWhileAReadWaits) {
  TlsPair& pair = secured();
  pair.send(*pair.client, counted_bytes(300'000));
  pair.receive(*pair.server, 300'000);
  Bytes into(100);
  std::optional<std::size_t> read;
  const auto reading = [&]() -> Task<void> {
    auto got = co_await pair.server->read_some(into);
    read = got.ok() ? *got : 0;
  };
  pair.scope.spawn(reading());
  pair.settle();
  pair.server->release_idle_memory();
  pair.client->release_idle_memory();
  pair.send(*pair.client, text_bytes("still here"));
  pair.settle();
  EXPECT_EQ(read, 10u);
  pair.server->release_idle_memory();
  pair.send(*pair.server, counted_bytes(300'000));
  EXPECT_EQ(pair.receive(*pair.client, 300'000), counted_bytes(300'000));
}

TEST_F(TlsStreamTest, GarbageInsteadOfTlsIsRefused) {
  for (const char* garbage : {"IHAVEOPT", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff",
                              "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"}) {
    Random random(3);
    SimLoop loop(random);
    auto [client, inner] = make_pipe(loop);
    TlsStream server(std::move(inner), psk_server(), "", {});
    Bytes bytes = text_bytes(garbage);
    bytes.resize(200);
    const ConstBytes part(bytes);
    const std::span<const ConstBytes> parts(&part, 1);
    ASSERT_TRUE(run_task(loop, client->write_all(parts)).ok());
    client->shutdown();
    EXPECT_FALSE(run_task(loop, server.handshake()).ok()) << garbage;
  }
}

TEST_F(TlsStreamTest, APeerThatVanishesInTheHandshakeIsNoticedAtEveryByte) {
  TlsPair whole(psk_server(), psk_client());
  whole.shake();
  ASSERT_TRUE(whole.secured());
  const std::size_t all = whole.client_wire->written;
  for (std::size_t cut = 0; cut < all; cut += cut < 20 ? 1 : 37) {
    TlsPair pair(psk_server(), psk_client());
    pair.client_wire->cut_at = cut;
    if (cut == 0) pair.client_wire->shutdown();
    pair.shake();
    ASSERT_TRUE(pair.server_result) << cut;
    EXPECT_FALSE(pair.server_result->ok()) << cut;
  }
}

TEST_F(TlsStreamTest, EveryFlippedBitInTheHandshakeIsNoticed) {
  TlsPair whole(psk_server(), psk_client());
  whole.shake();
  const std::size_t all = whole.client_wire->written;
  for (std::size_t at = 5; at < all; at += 11) {
    TlsPair pair(psk_server(), psk_client());
    pair.client_wire->flip_at = at;
    pair.shake();
    EXPECT_FALSE(pair.secured() && pair.client_error().empty()) << at;
  }
}

TEST_F(TlsStreamTest, ShutdownEndsAHandshakeThatWaits) {
  Random random(3);
  SimLoop loop(random);
  auto [client, inner] = make_pipe(loop);
  TlsStream server(std::move(inner), psk_server(), "", {});
  std::optional<Status> result;
  TaskScope scope;
  const auto shaking = [&]() -> Task<void> {
    auto done = co_await server.handshake();
    result.emplace(std::move(done));
  };
  scope.spawn(shaking());
  run_task(loop, sleep_for(loop, std::chrono::seconds(100)));
  EXPECT_FALSE(result);
  server.shutdown();
  run_task(loop, sleep_for(loop, std::chrono::milliseconds(1)));
  ASSERT_TRUE(result);
  EXPECT_EQ(result->error().code(), ErrorCode::kDisconnected);
}

}  // namespace
}  // namespace blockmig

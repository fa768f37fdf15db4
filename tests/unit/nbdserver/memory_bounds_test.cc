// SPDX-License-Identifier: Apache-2.0
// However slow the store is: what a connection keeps is what its requests are charged, and little
// more. The pool's bytes are counted, not the process's.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "stalled_rig.h"

namespace blockmig::nbd {
namespace {

constexpr std::uint64_t kSize = SessionRig::kDiskBytes;
constexpr std::uint64_t kMiB = 1 << 20;
/// What a connection may keep beside what its requests are charged.
constexpr std::uint64_t kOfItsOwn =
    (1 + ReceiveBuffer::kMaxPinned) * ReceiveBuffer::kBytes +
    (1 + ReplyQueue::kMaxWaitingBuffers) * ReplyQueue::kBatchBufferBytes;
constexpr int kRounds = 40;

std::uint64_t kept_bytes(SessionRig& rig) {
  const BufferPool& pool = rig.loops.home().pool;
  return pool.total_bytes() - pool.idle_bytes();
}
/// Sector `index`, in a pattern of its own.
ByteVector sector(int index) { return pattern(512, static_cast<std::uint8_t>(index + 1)); }
std::uint64_t sector_at(int index) { return static_cast<std::uint64_t>(index) * 512; }

/// A long write that is refused for its range: its payload goes through the receive buffer.
ByteVector refused_write(std::uint64_t cookie) {
  return request(0, kWrite, cookie, kSize - 1, kMiB, pattern(kMiB, 0xEE));
}

/// Writes that wait for the store, each far behind the other in what the client sends.
void send_scattered_writes(StalledRig& rig, SessionRig::Connection& client) {
  for (int i = 0; i < kRounds; ++i) {
    const auto cookie = static_cast<std::uint64_t>(i);
    const ByteVector small = request(0, kWrite, cookie, sector_at(i), 512, sector(i));
    rig.send(client, join({small, refused_write(1000 + cookie)}));
    EXPECT_EQ(rig.receive(client), simple_reply(kENOSPC, 1000 + cookie))
        << "the intake goes on behind " << i << " writes that wait";
  }
}

TEST(MemoryBounds, SmallWritesThatWaitDoNotKeepWhatWasReceivedAroundThem) {
  StalledRig rig;
  auto& client = rig.client();
  rig.store.stall();
  send_scattered_writes(rig, client);
  EXPECT_EQ(client.session->info().in_flight, static_cast<std::uint64_t>(kRounds));
  EXPECT_LE(kept_bytes(rig), kOfItsOwn + kRounds * 768u);
  rig.store.unstall();
  EXPECT_EQ(rig.receive(client).size(), kRounds * 16u);
  for (int i = 0; i < kRounds; ++i) {
    ByteVector written(512);
    rig.store.peek(sector_at(i), written);
    EXPECT_EQ(written, sector(i)) << i;
  }
  client.session->release_idle_memory();
  EXPECT_LE(kept_bytes(rig), ReceiveBuffer::kBytes + ReplyQueue::kBatchBufferBytes);
}

TEST(MemoryBounds, HoldForAllConnectionsTogether) {
  StalledRig rig;
  rig.store.stall();
  constexpr std::size_t kClients = 4;
  std::vector<SessionRig::Connection*> clients;
  for (std::size_t i = 0; i < kClients; ++i) {
    clients.push_back(&rig.client());
    send_scattered_writes(rig, *clients.back());
  }
  EXPECT_LE(kept_bytes(rig), kClients * (kOfItsOwn + kRounds * 768u));
  rig.store.unstall();
  for (auto* client : clients) EXPECT_EQ(rig.receive(*client).size(), kRounds * 16u);
}

TEST(MemoryBounds, AWaitingWriteOfEveryLengthIsIntact_Trap16) {
  StalledRig rig;
  auto& client = rig.client();
  rig.store.stall();
  send_scattered_writes(rig, client);
  const std::vector<std::size_t> lengths = {1, 4096, 32 * 1024, 32 * 1024 + 1, 70000, 128 * 1024};
  std::uint64_t at = kMiB / 2;
  Wire writes;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto value = static_cast<std::uint8_t>(0x80 + i);
    writes.add(request(0, kWrite, i, at, lengths[i], pattern(lengths[i], value)));
    at += lengths[i];
  }
  rig.send(client, writes);
  EXPECT_EQ(rig.exchange(client, refused_write(7)), simple_reply(kENOSPC, 7));
  rig.store.unstall();
  EXPECT_EQ(rig.receive(client).size(), (kRounds + lengths.size()) * 16u);
  at = kMiB / 2;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    ByteVector written(lengths[i]);
    rig.store.peek(at, written);
    EXPECT_EQ(written, pattern(lengths[i], static_cast<std::uint8_t>(0x80 + i))) << lengths[i];
    at += lengths[i];
  }
}

/// Structured, on the frozen store.
SessionRig::Connection& structured_client(StalledRig& rig) {
  auto& client = rig.connect();
  rig.exchange(client, join({client_flags(3), option(kOptStructured),
                             option(kOptGo, info_data("frozen", {}))}));
  return client;
}

/// Reads of a byte that wait for the store, with more than a batch buffer of other replies between
/// each and the next.
void send_scattered_reads(StalledRig& rig, SessionRig::Connection& client) {
  const ByteVector wrong = request(0, 9999, 7, 0, 0);
  const std::size_t error_bytes = rig.exchange(client, wrong).size();
  ASSERT_GT(error_bytes, 20u);
  Wire many;
  for (int i = 0; i < 500; ++i) many.add(wrong);
  const std::size_t batch_bytes = 500 * error_bytes;
  for (int i = 0; i < kRounds; ++i) {
    rig.send(client, request(0, kRead, static_cast<std::uint64_t>(i), sector_at(i), 1));
    for (std::size_t sent = 0; sent <= ReplyQueue::kBatchBufferBytes; sent += batch_bytes) {
      ASSERT_EQ(rig.exchange(client, many).size(), batch_bytes);
    }
  }
}

TEST(MemoryBounds, SmallReadsThatWaitDoNotKeepTheRepliesAroundThem) {
  StalledRig rig;
  auto& client = structured_client(rig);
  for (int i = 0; i < kRounds; ++i) {
    rig.exchange(client, request(0, kWrite, 1, sector_at(i), 512, sector(i)));
  }
  rig.store.stall();
  send_scattered_reads(rig, client);
  EXPECT_EQ(client.session->info().in_flight, static_cast<std::uint64_t>(kRounds));
  EXPECT_LE(kept_bytes(rig),
            ReceiveBuffer::kBytes + kRounds * 257u +
                (1 + ReplyQueue::kMaxWaitingBuffers) * ReplyQueue::kBatchBufferBytes);
  rig.store.unstall();
  const ByteVector replies = rig.receive(client);
  const std::size_t each = 20 + 8 + 1;
  ASSERT_EQ(replies.size(), kRounds * each);
  std::set<std::uint64_t> answered;
  for (std::size_t at = 0; at < replies.size(); at += each) {
    const std::uint64_t cookie = read_be(replies, at + 8, 8);
    answered.insert(cookie);
    EXPECT_EQ(read_be(replies, at + 28, 1), cookie + 1);
  }
  EXPECT_EQ(answered.size(), static_cast<std::size_t>(kRounds));
}

TEST(MemoryBounds, ReadsThatWaitAndFailGiveBackWhatTheyKept) {
  StalledRig rig;
  auto& client = structured_client(rig);
  rig.store.plan().read_error_ppm = 1000000;
  for (int round = 0; round < 2; ++round) {
    rig.store.stall();
    send_scattered_reads(rig, client);
    EXPECT_LE(kept_bytes(rig), kOfItsOwn);
    rig.store.unstall();
    rig.receive(client);
    EXPECT_EQ(client.session->info().in_flight, 0u);
  }
  EXPECT_LE(kept_bytes(rig), ReceiveBuffer::kBytes + ReplyQueue::kBatchBufferBytes);
}

TEST(MemoryBounds, ConnectionsThatWaitHoldNothingAndShareWhatIsWarm) {
  StalledRig rig;
  constexpr std::size_t kClients = 20;
  std::vector<SessionRig::Connection*> clients;
  for (std::size_t i = 0; i < kClients; ++i) clients.push_back(&structured_client(rig));
  for (int round = 0; round < 2; ++round) {
    for (auto* client : clients) {
      EXPECT_FALSE(rig.exchange(*client, request(0, kRead, 1, 0, 512)).empty());
    }
  }
  EXPECT_EQ(kept_bytes(rig), 0u);
  EXPECT_LE(rig.loops.home().pool.total_bytes(),
            ReceiveBuffer::kBytes + ReplyQueue::kBatchBufferBytes);
}

TEST(MemoryBounds, AnotherConnectionDoesNotGetWhatHalfARequestIsIn_Trap16) {
  StalledRig rig;
  auto& slow = rig.client();
  auto& quick = rig.client();
  const ByteVector write = request(0, kWrite, 7, 0, 512, sector(1));
  const auto half = static_cast<std::ptrdiff_t>(write.size() / 2);
  rig.send(slow, ByteVector(write.begin(), write.begin() + half));
  EXPECT_EQ(kept_bytes(rig), ReceiveBuffer::kBytes);
  for (int i = 2; i < 5; ++i) {
    const ByteVector other = request(0, kWrite, 8, sector_at(i), 512, sector(i));
    EXPECT_EQ(rig.exchange(quick, other), simple_reply(0, 8));
  }
  rig.send(slow, ByteVector(write.begin() + half, write.end()));
  EXPECT_EQ(rig.receive(slow), simple_reply(0, 7));
  ByteVector written(512);
  rig.store.peek(0, written);
  EXPECT_EQ(written, sector(1));
}

/// Of what a buffer of a connection has, which ends where its room ends.
std::size_t resident_pages(const ReceiveBuffer& buffer) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  std::byte* const begin = buffer.room().data() + buffer.room().size() - ReceiveBuffer::kBytes;
  std::vector<unsigned char> pages(ReceiveBuffer::kBytes / page);
  EXPECT_EQ(::mincore(begin, ReceiveBuffer::kBytes, pages.data()), 0);
  return static_cast<std::size_t>(std::count_if(
      pages.begin(), pages.end(), [](unsigned char each) { return (each & 1) != 0; }));
}

TEST(MemoryBounds, WhoStopsInTheMiddleOfAHeaderKeepsNoMoreThanItsPages) {
  BufferPool pool(8 << 20);
  ReceiveBuffer buffer(pool);
  const ByteVector rest = pattern(20, 0x55);
  for (const std::size_t at : {0u, 4086u, 500000u}) {
    buffer.prepare(28);
    const MutableBytes room = buffer.room();
    std::fill_n(room.begin(), room.size(), std::byte{1});
    std::copy(rest.begin(), rest.end(), room.begin() + static_cast<std::ptrdiff_t>(at));
    buffer.received(at + rest.size());
    buffer.consume(at);
    buffer.forget_contents();
    EXPECT_LE(resident_pages(buffer), 2u);
    const ConstBytes kept = buffer.available();
    EXPECT_EQ(ByteVector(kept.begin(), kept.end()), rest);
    buffer.consume(rest.size());
  }
}

TEST(MemoryBounds, WhatThePoolWouldNotKeepStaysWithItsConnection) {
  BufferPool pool(0);
  ReceiveBuffer buffer(pool);
  buffer.prepare(28);
  buffer.let_go();
  EXPECT_EQ(pool.total_bytes(), ReceiveBuffer::kBytes);
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
// Pool, receive buffer and reply queue on their own.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <vector>

#include "blockmig/base/contiguous_memory.h"
#include "blockmig/block/fault_guard.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/pipe_stream.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/unique_fd.h"
#include "nbdserver/buffer_pool.h"
#include "nbdserver/in_flight.h"
#include "nbdserver/receive_buffer.h"
#include "nbdserver/reply_queue.h"
#include "wire_bytes.h"

namespace blockmig::nbd {
namespace {

TEST(BufferPool, GivesBackTheSameMemoryAndAlignsIt) {
  BufferPool pool(1 << 20);
  BufferRef first = pool.take(100000);
  EXPECT_EQ(first.capacity(), 131072u);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first.data()) % 4096, 0u);
  const std::byte* memory = first.data();
  BufferRef second = first;
  EXPECT_FALSE(first.is_sole());
  first = BufferRef();
  EXPECT_TRUE(second.is_sole());
  EXPECT_EQ(pool.idle_bytes(), 0u);
  second = BufferRef();
  EXPECT_EQ(pool.idle_bytes(), 131072u);
  EXPECT_EQ(pool.take(70000).data(), memory);
  EXPECT_EQ(pool.total_bytes(), 131072u);
}

TEST(BufferPool, WhatFitsIsNoMoreThanTwiceAsLargeAndNothingSmallIsKept) {
  BufferPool pool(1 << 20);
  for (const std::size_t bytes : {1u, 512u, 32768u, 32769u, 70000u}) {
    const BufferRef fitting = pool.take_fitting(bytes);
    EXPECT_GE(fitting.capacity(), bytes);
    EXPECT_LE(fitting.capacity(), 2 * bytes);
    std::memset(fitting.data(), 1, bytes);
  }
  EXPECT_EQ(pool.total_bytes(), pool.idle_bytes());
  EXPECT_EQ(pool.idle_bytes(), 65536u + 131072u);
}

TEST(BufferPool, IdleMemoryIsBoundedAndTrimmed) {
  BufferPool pool(200000);
  {
    const BufferRef a = pool.take(1);
    const BufferRef b = pool.take(1);
    const BufferRef c = pool.take(1);
    const BufferRef d = pool.take(1);
    EXPECT_EQ(pool.total_bytes(), 4 * 65536u);
  }
  EXPECT_EQ(pool.idle_bytes(), 3 * 65536u);
  EXPECT_EQ(pool.total_bytes(), 3 * 65536u);
  pool.trim_if_unused();
  EXPECT_EQ(pool.idle_bytes(), 3 * 65536u);
  pool.trim_if_unused();
  EXPECT_EQ(pool.total_bytes(), 0u);
}

TEST(BufferPool, WhatAStoreUsesLiesTogetherAndIsGivenBackWhole) {
  BufferPool pool(2 * kContiguousBytes);
  std::vector<BufferRef> all;
  for (std::size_t i = 0; i < kContiguousBytes / 65536; ++i)
    all.push_back(pool.take_fitting(65536));
  EXPECT_EQ(pool.total_bytes(), kContiguousBytes);
  std::vector<std::byte*> places;
  for (const BufferRef& each : all) places.push_back(each.data());
  std::sort(places.begin(), places.end());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(places.front()) % kContiguousBytes, 0u);
  EXPECT_EQ(places.back() - places.front(), static_cast<std::ptrdiff_t>(kContiguousBytes - 65536));
  for (std::byte* place : places) std::memset(place, 1, 65536);
  all.clear();
  EXPECT_EQ(pool.idle_bytes(), kContiguousBytes);
  pool.trim();
  EXPECT_EQ(pool.total_bytes(), 0u);
}

void receive(ReceiveBuffer& buffer, const ByteVector& bytes) {
  buffer.prepare(28);
  ASSERT_GE(buffer.room().size(), bytes.size());
  std::memcpy(buffer.room().data(), bytes.data(), bytes.size());
  buffer.received(bytes.size());
}
ByteVector contents(const ReceiveBuffer& buffer) {
  return {buffer.available().begin(), buffer.available().end()};
}

TEST(ReceiveBuffer, BeginsAnewInTheSameMemoryWhenAllIsParsed) {
  BufferPool pool(1 << 20);
  ReceiveBuffer buffer(pool);
  receive(buffer, pattern(1000, 1));
  const std::byte* start = buffer.available().data();
  buffer.consume(1000);
  receive(buffer, pattern(10, 2));
  EXPECT_EQ(buffer.available().data(), start);
}

TEST(ReceiveBuffer, PinnedBytesAreNeverOverwritten_Trap16) {
  BufferPool pool(8 << 20);
  ReceiveBuffer buffer(pool);
  Random random(3);
  struct Pin {
    BufferRef keep;
    ConstBytes bytes;
    ByteVector copy;
  };
  std::vector<Pin> pins;
  for (int round = 0; round < 3000; ++round) {
    const ByteVector bytes =
        pattern(random.between(1, 30000), static_cast<std::uint8_t>(random.next()));
    receive(buffer, bytes);
    ASSERT_EQ(contents(buffer), bytes);
    if (random.chance(1, 3)) {
      pins.push_back({buffer.pin(), buffer.available(), bytes});
      buffer.keep_waiting(pins.back().keep, pins.back().bytes);
    }
    buffer.consume(bytes.size());
    if (pins.size() > 30) pins.erase(pins.begin() + static_cast<long>(random.below(pins.size())));
    for (const Pin& pin : pins) {
      ASSERT_TRUE(std::equal(pin.bytes.begin(), pin.bytes.end(), pin.copy.begin()));
    }
  }
}

TEST(ReceiveBuffer, AnUnparsedTailMovesWithIt) {
  BufferPool pool(8 << 20);
  ReceiveBuffer buffer(pool);
  buffer.prepare(28);
  buffer.received(buffer.room().size());
  buffer.consume(ReceiveBuffer::kBytes - 100);
  std::memset(const_cast<std::byte*>(buffer.available().data()), 7, 100);
  buffer.prepare(100000);
  EXPECT_EQ(contents(buffer), pattern(100, 7));
  EXPECT_GE(buffer.room().size(), 99900u);
}

TEST(ReceiveBuffer, PinsSoManyOldOnesAndCopiesBeyond) {
  BufferPool pool(0);
  ReceiveBuffer buffer(pool);
  std::vector<BufferRef> pins;
  // Fills the buffer up; true if what was in it stayed there.
  const auto stays = [&](std::size_t payload_bytes) {
    buffer.prepare(28);
    std::memset(buffer.room().data(), static_cast<int>(pins.size()), buffer.room().size());
    buffer.received(buffer.room().size());
    ConstBytes payload = buffer.available().first(payload_bytes);
    const ConstBytes before = payload;
    buffer.consume(buffer.available().size());
    pins.push_back(buffer.pin());
    buffer.keep_waiting(pins.back(), payload);
    EXPECT_EQ(payload.size(), before.size());
    EXPECT_TRUE(std::equal(payload.begin(), payload.end(), before.begin()));
    return payload.data() == before.data();
  };
  constexpr std::size_t kMost = ReceiveBuffer::kMaxPinned;
  for (std::size_t i = 0; i < kMost; ++i) EXPECT_TRUE(stays(512)) << i;
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(stays(512)) << i;
  EXPECT_EQ(pool.total_bytes(), (1 + kMost) * ReceiveBuffer::kBytes + 100 * 512);
  pins.erase(pins.begin());
  EXPECT_TRUE(stays(512)) << "one of them is not pinned any more";
  EXPECT_FALSE(stays(512));
}

struct QueueRig {
  QueueRig() {
    auto [a, b] = make_pipe(loop, {.capacity_bytes = 1 << 20});
    client = std::move(a);
    server = std::move(b);
    queue = std::make_unique<ReplyQueue>(loop, *server, pool, in_flight, counters);
  }
  ~QueueRig() {
    server->shutdown();
    settle();
    queue.reset();
  }
  void settle() { run_task(loop, sleep_for(loop, std::chrono::milliseconds(1))); }
  ByteVector sent() {
    settle();
    ByteVector bytes(1 << 20);
    bool ended = false;
    const auto got = client->try_read(bytes, &ended);
    bytes.resize(got.ok() ? *got : 0);
    return bytes;
  }
  void reply(std::size_t reserve, std::size_t used, std::uint8_t value) {
    in_flight.take(10);
    ReplySlot slot = queue->reserve(reserve);
    std::memset(slot.data(), value, used);
    queue->commit(std::move(slot), used);
    queue->finish(10);
  }
  Random random{1};
  SimLoop loop{random};
  BufferPool pool{1 << 20};
  Counter shown;
  InFlight in_flight{loop, 100, 1000000, shown};
  ClientCounters counters;
  std::unique_ptr<Stream> client;
  std::unique_ptr<Stream> server;
  std::unique_ptr<ReplyQueue> queue;
};

TEST(ReplyQueue, CorkedRepliesWaitAndLeaveTogether) {
  QueueRig rig;
  rig.queue->cork();
  for (std::uint8_t i = 1; i <= 3; ++i) rig.reply(100, 16, i);
  EXPECT_TRUE(rig.sent().empty());
  EXPECT_EQ(rig.in_flight.requests(), 3u);
  rig.queue->uncork();
  rig.queue->send_now();
  EXPECT_EQ(rig.sent(), join({pattern(16, 1), pattern(16, 2), pattern(16, 3)}));
  EXPECT_EQ(rig.in_flight.requests(), 0u);
  EXPECT_EQ(rig.in_flight.bytes(), 0u);
  EXPECT_EQ(rig.queue->unsent_bytes(), 0u);
}

TEST(ReplyQueue, UncorkedRepliesLeaveByThemselves) {
  QueueRig rig;
  rig.reply(50, 50, 9);
  EXPECT_EQ(rig.sent(), pattern(50, 9));
}

TEST(ReplyQueue, SlotsMayFinishInAnyOrderOrNotAtAll) {
  QueueRig rig;
  rig.in_flight.take(0);
  rig.in_flight.take(0);
  ReplySlot first = rig.queue->reserve(4);
  ReplySlot second = rig.queue->reserve(4);
  ReplySlot third = rig.queue->reserve(4);
  std::memset(first.data(), 1, 4);
  std::memset(second.data(), 2, 4);
  std::memset(third.data(), 3, 4);
  rig.queue->commit(std::move(third), 4);
  rig.queue->finish(0);
  rig.queue->cancel(std::move(second));
  rig.queue->commit(std::move(first), 4);
  rig.queue->finish(0);
  EXPECT_EQ(rig.sent(), join({pattern(4, 3), pattern(4, 1)}));
}

TEST(ReplyQueue, RepliesThatWaitKeepSoManyBatchBuffersAndNoMore) {
  QueueRig rig;
  const auto fill_up = [&] {
    for (int i = 0; i < 9; ++i) rig.reply(30000, 30000, 1);
    EXPECT_EQ(rig.sent().size(), 9 * 30000u);
  };
  std::vector<ReplySlot> waiting;
  for (std::size_t i = 0; i < ReplyQueue::kMaxWaitingBuffers; ++i) {
    // As many as there is room for in one buffer; the buffer counts.
    for (int k = 0; k < 3; ++k) {
      waiting.push_back(rig.queue->reserve_waiting(100));
      ASSERT_NE(waiting.back().data(), nullptr) << i;
    }
    fill_up();
  }
  EXPECT_EQ(rig.queue->reserve_waiting(100).data(), nullptr);
  fill_up();
  EXPECT_LE(rig.pool.total_bytes() - rig.pool.idle_bytes(),
            (1 + ReplyQueue::kMaxWaitingBuffers) * ReplyQueue::kBatchBufferBytes);

  // One buffer is free with the last of its replies, sent or not.
  rig.in_flight.take(0);
  std::memset(waiting[3].data(), 5, 7);
  rig.queue->commit(std::move(waiting[3]), 7);
  rig.queue->finish(0);
  rig.queue->cancel(std::move(waiting[5]));
  EXPECT_EQ(rig.sent(), pattern(7, 5));
  EXPECT_EQ(rig.queue->reserve_waiting(100).data(), nullptr);
  rig.queue->cancel(std::move(waiting[4]));
  ReplySlot next = rig.queue->reserve_waiting(100);
  EXPECT_NE(next.data(), nullptr);
  rig.queue->cancel(std::move(next));
  for (const std::size_t i : {0u, 1u, 2u, 6u, 7u, 8u, 9u, 10u, 11u}) {
    rig.queue->cancel(std::move(waiting[i]));
  }
}

TEST(ReplyQueue, BuffersOfTheirOwnKeepTheirPlace) {
  QueueRig rig;
  rig.queue->cork();
  rig.reply(16, 16, 1);
  rig.in_flight.take(0);
  BufferRef large = rig.pool.take(200000);
  std::memset(large.data(), 2, 200000);
  const ConstBytes bytes(large.data(), 200000);
  rig.queue->commit_buffer(std::move(large), bytes);
  rig.queue->finish(0);
  rig.reply(16, 16, 3);
  rig.queue->uncork();
  rig.queue->send_now();
  EXPECT_EQ(rig.sent(), join({pattern(16, 1), pattern(200000, 2), pattern(16, 3)}));
}

TEST(ReplyQueue, BatchMemoryIsReusedOnceItWasSent) {
  QueueRig rig;
  for (int i = 0; i < 1000; ++i) {
    rig.reply(30000, 30000, static_cast<std::uint8_t>(i));
    EXPECT_EQ(rig.sent(), pattern(30000, static_cast<std::uint8_t>(i)));
  }
  EXPECT_LE(rig.pool.total_bytes(), ReplyQueue::kBatchBufferBytes);
}

/// What was lent cannot be had any more: its file was cut.
TEST(ReplyQueue, AnErrorTakesThePlaceOfLentBytesThatAreGone) {
  install_fault_guard();
  const UniqueFd file(::memfd_create("cut", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 8192), 0);
  void* const at = ::mmap(nullptr, 8192, PROT_READ, MAP_SHARED, file.get(), 0);
  ASSERT_NE(at, MAP_FAILED);
  const ConstBytes lent(static_cast<std::byte*>(at), 4096);
  Request request;
  request.cookie = 77;
  request.offset = 65536;
  request.length = lent.size();
  {
    QueueRig rig;
    rig.queue->cork();
    rig.reply(16, 16, 1);
    rig.in_flight.take(10);
    ReplySlot slot = rig.queue->reserve(kMaxHeaderBytes);
    const std::size_t header = encode_data_header(slot.data(), request, HeaderStyle::kSimple,
                                                  request.offset, lent.size(), true);
    rig.queue->commit(std::move(slot), header);
    rig.queue->commit_borrowed(request, HeaderStyle::kSimple, header, lent);
    rig.queue->finish(10);
    EXPECT_EQ(rig.counters.bytes_read.value(), 0u);
    rig.reply(16, 16, 3);
    ASSERT_EQ(::ftruncate(file.get(), 0), 0);
    rig.queue->copy_borrowed({request.offset, 1});
    rig.queue->uncork();
    rig.queue->send_now();

    ByteVector error(kMaxErrorBytes);
    error.resize(
        encode_error(error.data(), request, HeaderStyle::kSimple, WireError::kIo, "", nullptr));
    EXPECT_EQ(rig.sent(), join({pattern(16, 1), error, pattern(16, 3)}));
    EXPECT_EQ(rig.counters.errors.value(), 1u);
    EXPECT_EQ(rig.counters.bytes_read.value(), 0u) << "nothing was read";
    EXPECT_EQ(rig.queue->unsent_bytes(), 0u);
    EXPECT_EQ(rig.in_flight.requests(), 0u);
  }
  ::munmap(at, 8192);
}

TEST(ReplyQueue, AfterTheClientIsGoneEverythingIsGivenBack) {
  QueueRig rig;
  rig.client->shutdown();
  for (int i = 0; i < 5; ++i) rig.reply(16, 16, 1);
  rig.settle();
  EXPECT_TRUE(rig.queue->broken());
  EXPECT_EQ(rig.in_flight.requests(), 0u);
  rig.reply(16, 16, 1);
  rig.settle();
  EXPECT_EQ(rig.in_flight.requests(), 0u);
  EXPECT_EQ(rig.queue->unsent_bytes(), 0u);
}

TEST(InFlight, AdmitsUpToItsLimitsAndALargeOneAlone) {
  Random random(1);
  SimLoop loop(random);
  Counter shown;
  InFlight in_flight(loop, 2, 100, shown);
  EXPECT_TRUE(in_flight.admits(1000));
  in_flight.take(60);
  EXPECT_FALSE(in_flight.admits(41));
  EXPECT_TRUE(in_flight.admits(40));
  in_flight.take(40);
  EXPECT_FALSE(in_flight.admits(0));
  in_flight.give(2, 100);
  EXPECT_TRUE(in_flight.admits(1000));
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
// The server with several loops: who is served where, and that nobody can tell.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <thread>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/pipe_stream.h"
#include "served_rig.h"

namespace blockmig::nbd {
namespace {

using namespace std::chrono_literals;

class ThreadsTest : public testing::Test, protected ServedRig {
 protected:
  static constexpr int kThreads = 2;

  void SetUp() override {
    prepare(LoopKind::kPortable, kThreads, device_);
    server_ = make_nbd_server(*loop_, directory_, options_);
    ASSERT_TRUE(server_->listen(address_).ok());
  }
  void TearDown() override {
    if (server_ != nullptr) stop();
    clients_.clear();
  }
  void stop() {
    run_task(*loop_, server_->stop(100ms));
    server_.reset();
  }
  bool closed(Stream& stream) {
    ByteVector bytes(1);
    const auto got = run_task(*loop_, stream.read_some(bytes));
    return !got.ok() || *got == 0;
  }

  MemoryDevice device_{"memory", 16 << 20};
  std::unique_ptr<NbdServer> server_;
};

TEST_F(ThreadsTest, ConnectionsAreSpreadAndSeeOneDisk) {
  std::vector<Stream*> clients;
  for (int i = 0; i < 2 * (kThreads + 1); ++i) clients.push_back(&transmitting());
  for (std::size_t i = 0; i < clients.size(); ++i) {
    send(*clients[i],
         request(0, kWrite, i, i * 4096, 4096, pattern(4096, static_cast<std::uint8_t>(i))));
    EXPECT_EQ(receive(*clients[i], 16), simple_reply(0, i));
  }
  for (std::size_t i = 0; i < clients.size(); ++i) {
    for (std::size_t j = 0; j < clients.size(); ++j) {
      send(*clients[i], request(0, kRead, j, j * 4096, 4096));
      EXPECT_EQ(receive(*clients[i], 16 + 4096),
                simple_reply(0, j, pattern(4096, static_cast<std::uint8_t>(j))));
    }
  }
  EXPECT_EQ(readers_.size(), static_cast<std::size_t>(kThreads)) << "home reads by itself";
  EXPECT_FALSE(readers_.contains(std::this_thread::get_id()));
  const auto infos = server_->clients();
  ASSERT_EQ(infos.size(), clients.size());
  for (const auto& info : infos) EXPECT_EQ(info.requests, 1 + clients.size());
}

TEST_F(ThreadsTest, AFlushMakesWritesOfOtherLoopsDurable_I1) {
  Random random(1);
  FaultDevice store(*loop_, random, "store", 1 << 20);
  disk_ = std::make_shared<FakeExport>("disk0", store);
  disk_->open_lane_ = [this, &store](EventLoop& other) {
    return std::make_shared<FakeLane>(store, *loop_, other, readers_);
  };
  directory_.exports_ = {disk_};
  std::vector<Stream*> clients;
  for (int i = 0; i < kThreads + 1; ++i) clients.push_back(&transmitting());
  for (std::size_t i = 0; i < clients.size(); ++i) {
    Stream& flusher = *clients[(i + 1) % clients.size()];
    const ByteVector data = pattern(4096, static_cast<std::uint8_t>(i + 1));
    send(*clients[i], request(0, kWrite, 1, 0, 4096, data));
    EXPECT_EQ(receive(*clients[i], 16), simple_reply(0, 1));
    ByteVector survives(4096);
    store.peek_durable(0, survives);
    ASSERT_NE(survives, data) << "with a store that needs no flush nothing is shown";
    send(flusher, request(0, kFlush, 2, 0, 0));
    EXPECT_EQ(receive(flusher, 16), simple_reply(0, 2));
    store.peek_durable(0, survives);
    EXPECT_EQ(survives, data) << "written on loop " << i;
  }
  stop();
}

TEST_F(ThreadsTest, WhatComesBehindTheLastOptionIsServedElsewhereToo) {
  transmitting();
  Stream& moved = transmitting(request(0, kRead, 7, 0, 512));
  EXPECT_EQ(receive(moved, 16 + 512), simple_reply(0, 7, ByteVector(512)));
  EXPECT_EQ(readers_.size(), 1u);
}

TEST_F(ThreadsTest, AClientElsewhereCanBeCut) {
  transmitting();
  Stream& moved = transmitting();
  const auto infos = server_->clients();
  ASSERT_EQ(infos.size(), 2u);
  ASSERT_TRUE(server_->disconnect(infos[1].id).ok());
  EXPECT_TRUE(closed(moved));
  while (server_->clients().size() != 1) run_task(*loop_, sleep_for(*loop_, 1ms));
}

TEST_F(ThreadsTest, AShutdownAnswersWhatIsInFlightEverywhere) {
  std::vector<Stream*> clients;
  for (int i = 0; i < kThreads + 1; ++i) clients.push_back(&transmitting());
  for (Stream* client : clients) send(*client, request(0, kRead, 1, 0, 65536));
  // Taken before the shutdown begins, or refused by it: never left without an answer.
  stop();
  for (Stream* client : clients) {
    const ByteVector reply = receive(*client, 16);
    EXPECT_EQ(read_be(reply, 8, 8), 1u);
  }
}

TEST_F(ThreadsTest, AClientThatVanishesElsewhereLeavesNothing) {
  transmitting();
  for (int i = 0; i < 20; ++i) {
    transmitting(request(0, kRead, 1, 0, 1 << 20));
    clients_.pop_back();
  }
  while (server_->clients().size() != 1) run_task(*loop_, sleep_for(*loop_, 1ms));
}

TEST_F(ThreadsTest, AnExportThatCannotBeReachedFromElsewhereStaysHome) {
  disk_->open_lane_ = nullptr;
  for (int i = 0; i < 3; ++i) {
    Stream& client = transmitting();
    send(client, request(0, kRead, 1, 0, 512));
    EXPECT_EQ(receive(client, 16 + 512), simple_reply(0, 1, ByteVector(512)));
  }
  EXPECT_TRUE(readers_.empty());
}

}  // namespace
}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/reconnecting_device.h"

#include <gtest/gtest.h>

#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/fault_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Reconnecting : public testing::Test {
 protected:
  static constexpr std::uint64_t kSize = 1 * kMiB;

  Reconnecting() {
    auto store = std::make_unique<FaultDevice>(loop_, random_, "store", kSize);
    store_ = store.get();
    store_->preload(0, std::vector<std::byte>(kSize, std::byte{5}));
    device_ = std::make_unique<ReconnectingDevice>(loop_, std::move(store), seconds(30));
  }
  ~Reconnecting() override {
    advance(seconds(200));  // whatever still waits has given up
    scope_.reset();
    const Status closed = run_task(loop_, device_->close());
    static_cast<void>(closed);
  }
  void advance(Duration time) { run_task(loop_, sleep_for(loop_, time)); }
  /// As after serving: outlasting, and flushed once.
  void serve() {
    device_->outlast();
    advance(milliseconds(1));
  }
  Status read() { return run_task(loop_, device_->read(0, into_)); }
  Status write() {
    const WriteFlags flags{};
    return run_task(loop_, device_->write(0, from_, flags));
  }
  Status flush() { return run_task(loop_, device_->flush()); }
  Task<void> read_into(Status& status) { status = co_await device_->read(0, into_); }
  Task<void> write_into(Status& status) {
    const WriteFlags flags{};
    status = co_await device_->write(0, from_, flags);
  }
  Task<void> revive_into(Status& status) { status = co_await device_->revive(); }
  static Task<void> reconnect_later(EventLoop& loop, FaultDevice& store, Duration after) {
    co_await sleep_for(loop, after);
    store.reconnect();
  }
  /// Longer than a handshake, shorter than a read.
  static Task<void> break_often(EventLoop& loop, FaultDevice& store, const bool& stop) {
    while (!stop) {
      co_await sleep_for(loop, milliseconds(1));
      if (!store.connected()) continue;
      co_await sleep_for(loop, milliseconds(5));
      store.disconnect();
      store.reconnect();
    }
  }
  /// The store goes away for `time`.
  void lose_for(Duration time) {
    store_->disconnect();
    scope_->spawn(reconnect_later(loop_, *store_, time));
  }

  Random random_{3};
  SimLoop loop_{random_};
  FaultDevice* store_ = nullptr;
  std::unique_ptr<ReconnectingDevice> device_;
  std::vector<std::byte> into_ = std::vector<std::byte>(4096);
  std::vector<std::byte> from_ = std::vector<std::byte>(4096, std::byte{9});
  std::unique_ptr<TaskScope> scope_ = std::make_unique<TaskScope>();
};

TEST_F(Reconnecting, AReadWaitsForAStoreThatHasNothingToLose) {
  serve();
  lose_for(seconds(5));
  const TimePoint begun = loop_.now();
  EXPECT_TRUE(read().ok());
  EXPECT_EQ(into_[0], std::byte{5});
  EXPECT_GE(loop_.now() - begun, seconds(5));
  EXPECT_LE(loop_.now() - begun, seconds(8));
  EXPECT_EQ(device_->trouble(), "");
}

TEST_F(Reconnecting, AWriteIsNotSentToAStoreThatIsKnownToBeAwayAndWaits) {
  serve();
  ASSERT_TRUE(write().ok());
  ASSERT_TRUE(flush().ok());
  lose_for(seconds(5));
  EXPECT_TRUE(write().ok());
  EXPECT_TRUE(read().ok());
  EXPECT_EQ(into_[0], std::byte{9});
}

TEST_F(Reconnecting, WithUnflushedWritesItIsGivenUpForGood_I1) {
  serve();
  ASSERT_TRUE(write().ok());
  lose_for(seconds(1));
  const Status failed = read();
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code(), ErrorCode::kDisconnected);
  advance(seconds(100));
  EXPECT_FALSE(read().ok());
  EXPECT_FALSE(write().ok());
  EXPECT_FALSE(flush().ok());
  EXPECT_NE(device_->trouble().find("serve the disk anew"), std::string::npos);
}

TEST_F(Reconnecting, AWriteUnderWayWhenItBreaksMayStillHappen_I9) {
  serve();
  ASSERT_TRUE(flush().ok());
  store_->stall();
  Status written;
  scope_->spawn(write_into(written));
  advance(milliseconds(10));
  store_->disconnect();
  store_->unstall();
  store_->reconnect();
  advance(seconds(60));
  EXPECT_FALSE(written.ok());
  EXPECT_FALSE(read().ok());
  EXPECT_NE(device_->trouble(), "");
}

TEST_F(Reconnecting, AFlushCoversOnlyWhatHadEndedBeforeIt_I1) {
  serve();
  store_->plan().min_delay = store_->plan().max_delay = milliseconds(10);
  Status written;
  scope_->spawn(write_into(written));
  advance(milliseconds(5));
  ASSERT_TRUE(flush().ok());  // begins before the write has ended
  ASSERT_TRUE(written.ok());
  lose_for(seconds(1));
  EXPECT_FALSE(read().ok());
}

TEST_F(Reconnecting, WhatWasThereBeforeIsFlushedOnce) {
  store_->plan().flush_error_ppm = 1'000'000;
  serve();
  lose_for(milliseconds(1));
  EXPECT_FALSE(read().ok());  // nobody knows what it had made durable
}

TEST_F(Reconnecting, PatienceEndsAndTheStoreIsStillLookedFor) {
  serve();
  lose_for(seconds(100));
  const TimePoint begun = loop_.now();
  EXPECT_FALSE(read().ok());
  EXPECT_GE(loop_.now() - begun, seconds(30));
  EXPECT_LE(loop_.now() - begun, seconds(31));
  EXPECT_NE(device_->trouble().find("being connected again"), std::string::npos);
  EXPECT_FALSE(write().ok());  // never sent: that waited as long
  advance(seconds(60));
  EXPECT_TRUE(read().ok());
}

TEST_F(Reconnecting, AServerThatBreaksWithEachAnswerIsNotAskedForEver) {
  serve();
  store_->plan().min_delay = store_->plan().max_delay = milliseconds(20);
  bool stop = false;
  scope_->spawn(break_often(loop_, *store_, stop));
  const TimePoint begun = loop_.now();
  EXPECT_EQ(read().error().code(), ErrorCode::kDisconnected);
  EXPECT_LT(loop_.now() - begun, seconds(10));  // simulated time, and far below its patience
  stop = true;
  EXPECT_TRUE(read().ok());
}

TEST_F(Reconnecting, BeforeItOutlastsErrorsPass) {
  ASSERT_TRUE(flush().ok());
  store_->disconnect();
  store_->reconnect();
  EXPECT_FALSE(read().ok());
  EXPECT_EQ(device_->trouble(), "");
  EXPECT_TRUE(run_task(loop_, device_->revive()).ok());
  EXPECT_TRUE(read().ok());
}

// The simulator found one that was opened anew under its own first flush.
TEST_F(Reconnecting, ItIsNotRevivedWhileItsOwnFlushIsInside) {
  store_->plan().flush_delay = seconds(1);
  device_->outlast();
  EXPECT_EQ(store_->in_flight(), 1u);
  EXPECT_TRUE(run_task(loop_, device_->revive()).ok());
  EXPECT_EQ(store_->in_flight(), 0u);
  EXPECT_TRUE(read().ok());
}

TEST_F(Reconnecting, WhoRevivesItWhileItIsBroughtBackHasNothingLeftToDo) {
  serve();
  store_->plan().min_delay = store_->plan().max_delay = milliseconds(10);
  lose_for(seconds(1));
  Status seen = Error(ErrorCode::kBusy, "not yet");
  scope_->spawn(read_into(seen));
  advance(milliseconds(1));
  Status revived = Error(ErrorCode::kBusy, "not yet");
  scope_->spawn(revive_into(revived));
  advance(seconds(10));
  EXPECT_TRUE(seen.ok());
  EXPECT_TRUE(revived.ok());
  EXPECT_EQ(device_->trouble(), "");
}

TEST_F(Reconnecting, RequestsWaitWhileItIsRevived) {
  serve();
  ASSERT_TRUE(write().ok());
  lose_for(milliseconds(1));
  ASSERT_FALSE(read().ok());  // given up
  advance(seconds(1));
  store_->plan().min_delay = store_->plan().max_delay = milliseconds(10);
  Status revived = Error(ErrorCode::kBusy, "not yet");
  Status seen = revived;
  scope_->spawn(revive_into(revived));
  scope_->spawn(read_into(seen));
  advance(seconds(1));
  EXPECT_TRUE(revived.ok());
  EXPECT_TRUE(seen.ok());
  EXPECT_EQ(device_->trouble(), "");
}

TEST_F(Reconnecting, RevivedItWaitsForThoseInside) {
  serve();
  store_->plan().min_delay = store_->plan().max_delay = milliseconds(10);
  Status seen = Error(ErrorCode::kBusy, "not yet");
  Status revived = seen;
  scope_->spawn(read_into(seen));
  advance(milliseconds(1));
  scope_->spawn(revive_into(revived));
  advance(seconds(1));
  EXPECT_TRUE(seen.ok());
  EXPECT_TRUE(revived.ok());
}

TEST_F(Reconnecting, GivenUpNobodyRevivesItAnyMore) {
  serve();
  store_->disconnect();
  EXPECT_FALSE(read().ok());
  Status revived;
  scope_->spawn(revive_into(revived));
  advance(seconds(60));
  device_->withdraw();
  advance(milliseconds(1));
  EXPECT_FALSE(revived.ok());
}

TEST_F(Reconnecting, ClosingEndsTheWait) {
  serve();
  store_->disconnect();
  Status done;
  scope_->spawn(read_into(done));
  advance(seconds(1));
  EXPECT_EQ(scope_->running(), 1u);
  device_->abandon();
  advance(milliseconds(1));
  EXPECT_EQ(scope_->running(), 0u);
  EXPECT_FALSE(done.ok());
}

}  // namespace
}  // namespace blockmig

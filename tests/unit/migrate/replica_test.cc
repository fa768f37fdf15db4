// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/replica.h"

#include <gtest/gtest.h>

#include <cstring>

#include "blockmig/migrate/unanswered.h"
#include "rig.h"
#include "tests/unit/shared/join_all.h"

namespace blockmig {
namespace {

using std::chrono::milliseconds;

class ReplicaTest : public testing::Test {
 protected:
  ReplicaTest() : store_(std::make_shared<FaultDevice>(loop_, random_, "target", 1 * kMiB)) {
    store_->plan().min_delay = store_->plan().max_delay = milliseconds(100);
  }
  Task<void> ask() {
    const auto found = co_await replica_.extents(0, 4096);
    answered_ = found.ok();
  }

  Task<void> drain_into(bool& drained) {
    co_await replica_.drain();
    drained = true;
  }

  Random random_{1};
  SimLoop loop_{random_};
  std::shared_ptr<FaultDevice> store_;
  Replica replica_{loop_, std::make_unique<SharedDevice>(store_)};
  TaskScope asking_;
  bool answered_ = false;
};

// The simulator found a base that was connected again while it had not answered this.
TEST_F(ReplicaTest, WhatItIsAskedIsInFlightToo) {
  EXPECT_EQ(replica_.in_flight(), 0u);
  asking_.spawn(ask());
  EXPECT_EQ(replica_.in_flight(), 1u);
  const TimePoint soon = loop_.now() + milliseconds(50);
  EXPECT_FALSE(run_task(loop_, replica_.idle_until(soon)));
  const TimePoint later = loop_.now() + milliseconds(100);
  EXPECT_TRUE(run_task(loop_, replica_.idle_until(later)));
  EXPECT_TRUE(answered_);
  EXPECT_EQ(replica_.in_flight(), 0u);
}

TEST_F(ReplicaTest, AllIsFlushedOnlyWhereItIsKnownWhatIsNot_I11) {
  EXPECT_FALSE(replica_.all_flushed()) << "nobody has noted what it takes";
  const auto dirty = *DirtyBitmap::create(1 * kMiB, 4096);
  ASSERT_TRUE(replica_.mark_losses_in(*dirty).ok());
  EXPECT_TRUE(replica_.all_flushed());
  const TimePoint later = loop_.now() + milliseconds(500);
  auto zeros = std::make_shared<TargetOp>(loop_, TargetOpKind::kZero);
  zeros->length = 4096;
  EXPECT_TRUE(run_task(loop_, replica_.perform(zeros, later)).ok());
  EXPECT_FALSE(replica_.all_flushed());
  auto flush = std::make_shared<TargetOp>(loop_, TargetOpKind::kFlush);
  EXPECT_TRUE(run_task(loop_, replica_.perform(flush, later)).ok());
  EXPECT_TRUE(replica_.all_flushed());
  replica_.forget_losses();
  EXPECT_FALSE(replica_.all_flushed());
}

// A server does what it has been sent, whatever becomes of the connection.
TEST_F(ReplicaTest, ItIsDrainedWhenTheTargetHasAnsweredAllThatItWasSent_I9) {
  store_->stall();
  auto write = std::make_shared<TargetOp>(loop_, TargetOpKind::kWrite);
  write->memory = std::make_shared<Buffer>(512);
  write->bytes = write->memory->bytes();
  write->length = 512;
  std::memset(write->bytes.data(), 0x11, 512);
  replica_.submit(write);
  asking_.spawn(ask());
  for (int i = 0; i < 10; ++i) loop_.step();
  replica_.abandon();
  EXPECT_TRUE(write->done.is_set() && !write->status.ok()) << "whoever waits for it need not";
  run_task(loop_, join_all(asking_));
  EXPECT_FALSE(answered_);

  bool drained = false;
  TaskScope draining;
  draining.spawn(drain_into(drained));
  while (loop_.step()) {
  }
  EXPECT_FALSE(drained) << "it may still be written";
  store_->unstall();
  run_task(loop_, join_all(draining));
  std::vector<std::byte> now(512);
  store_->peek(0, now);
  EXPECT_EQ(now, std::vector<std::byte>(512, std::byte{0x11}));
  EXPECT_EQ(store_->in_flight(), 0u);
}

TEST_F(ReplicaTest, CutItIsDrainedAtOnce_I10) {
  store_->stall();
  asking_.spawn(ask());
  for (int i = 0; i < 10; ++i) loop_.step();
  replica_.cut();
  run_task(loop_, replica_.drain());
  run_task(loop_, join_all(asking_));
  EXPECT_FALSE(answered_);
}

// A base that is never without requests would be called away for as long.
TEST_F(ReplicaTest, ATargetThatDeliversAgainIsNotCalledAway) {
  const TimePoint later = loop_.now() + std::chrono::seconds(10);
  const auto read = [&] {
    auto op = std::make_shared<TargetOp>(loop_, TargetOpKind::kRead);
    op->memory = std::make_shared<Buffer>(512);
    op->bytes = op->memory->bytes();
    op->length = 512;
    return op;
  };
  store_->disconnect();
  EXPECT_FALSE(run_task(loop_, replica_.perform(read(), later)).ok());
  EXPECT_TRUE(replica_.disconnected());
  store_->reopen();  // as by a layer below
  EXPECT_TRUE(run_task(loop_, replica_.perform(read(), later)).ok());
  EXPECT_FALSE(replica_.disconnected());
}

// Who writes there next is told, until nothing of before can come any more.
TEST_F(ReplicaTest, WhatIsUnansweredIsListedUntilItIsAnswered_I9) {
  Unanswered unanswered(loop_);
  auto entry = std::make_unique<Unanswered::Entry>(
      unanswered, Unanswered::Place{"job-1", "vm1", "nbd://there/"}, [] {});
  ASSERT_EQ(unanswered.places().size(), 1u);
  EXPECT_EQ(unanswered.places()[0].uri, "nbd://there/");
  const TimePoint soon = loop_.now() + milliseconds(10);
  EXPECT_FALSE(run_task(loop_, unanswered.wait("nbd://there/", soon)));
  EXPECT_TRUE(run_task(loop_, unanswered.wait("nbd://elsewhere/", soon)));
  entry.reset();
  EXPECT_TRUE(run_task(loop_, unanswered.wait("nbd://there/", soon)));
  EXPECT_TRUE(unanswered.places().empty());
}

}  // namespace
}  // namespace blockmig

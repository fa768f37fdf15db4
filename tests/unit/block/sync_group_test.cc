// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/sync_group.h"

#include <gtest/gtest.h>

#include <optional>

#include "blockmig/base/random.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

Error lost() { return Error(ErrorCode::kIo, "data lost"); }

/// A medium whose sync covers what was written before it began, and ends when it is told to, or
/// after a drawn time.
class SyncGroupTest : public testing::Test {
 protected:
  static constexpr int kClients = 8;
  static constexpr int kFlushesEach = 20;

  Task<Status> sync() {
    EXPECT_EQ(running_++, 0) << "never two at once";
    ++syncs_;
    const int covers = written_;
    if (timed_) {
      co_await sleep_for(loop_, std::chrono::microseconds(random_.between(1, 50)));
    } else {
      co_await end_.wait();
    }
    --running_;
    if (fails_) co_return lost();
    durable_ = covers;
    co_return Status();
  }
  Task<void> flush_into(std::optional<Status>& answer) {
    const int covers = written_;
    const Status done = co_await group_.flush();
    EXPECT_TRUE(!done.ok() || durable_ >= covers) << "acknowledged, not durable (I1)";
    answer = done;
  }
  Task<void> client() {
    for (int i = 0; i < kFlushesEach; ++i) {
      ++written_;
      std::optional<Status> answer;
      co_await flush_into(answer);
      EXPECT_TRUE(answer && answer->ok());
      co_await sleep_for(loop_, std::chrono::microseconds(random_.between(0, 20)));
    }
  }
  Task<void> clients() {
    for (int i = 0; i < kClients; ++i) {
      auto task = client();
      scope_.spawn(std::move(task));
    }
    co_await scope_.join();
  }
  void begin(std::optional<Status>& answer) {
    auto task = flush_into(answer);
    scope_.spawn(std::move(task));
    settle();
  }
  void end_sync() {
    end_.pulse();
    settle();
  }
  /// Steps the loop until nothing happens at this instant any more.
  void settle() {
    for (int i = 0; i < 50; ++i) loop_.step();
  }

  Random random_{1};
  SimLoop loop_{random_};
  Event end_{loop_};
  StickyError error_;
  SyncGroup group_{loop_, error_, [this] { return sync(); }};
  TaskScope scope_;
  bool timed_ = false;
  bool fails_ = false;
  int running_ = 0;
  int syncs_ = 0;
  int written_ = 0;
  int durable_ = 0;
};

TEST_F(SyncGroupTest, OneFlushIsOneSync) {
  std::optional<Status> answer;
  begin(answer);
  EXPECT_EQ(syncs_, 1);
  EXPECT_FALSE(answer);
  end_sync();
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->ok());
}

TEST_F(SyncGroupTest, FlushesThatComeDuringASyncShareTheNext_Trap18_I1) {
  std::optional<Status> first, second, third;
  begin(first);
  ++written_;
  begin(second);
  ++written_;
  begin(third);
  EXPECT_EQ(syncs_, 1);
  end_sync();
  EXPECT_TRUE(first && first->ok());
  EXPECT_FALSE(second || third) << "what they cover was written after that sync had begun";
  EXPECT_EQ(syncs_, 2);
  end_sync();
  EXPECT_TRUE(second && second->ok());
  EXPECT_TRUE(third && third->ok());
  EXPECT_EQ(syncs_, 2) << "shared";
}

TEST_F(SyncGroupTest, AFailureReachesThoseThatWaitAndAllLater_I11) {
  std::optional<Status> first, second, later;
  begin(first);
  begin(second);
  fails_ = true;
  end_sync();
  fails_ = false;  // the report has been given; the next sync would be told that all is well
  EXPECT_TRUE(first && !first->ok());
  EXPECT_TRUE(second && !second->ok());
  begin(later);
  EXPECT_TRUE(later && !later->ok());
  EXPECT_EQ(syncs_, 1);
}

TEST_F(SyncGroupTest, AFailureReachesAllThatShareTheSync_I11) {
  std::optional<Status> first, second, third;
  begin(first);
  begin(second);
  begin(third);
  end_sync();
  EXPECT_TRUE(first && first->ok());
  fails_ = true;
  end_sync();
  EXPECT_TRUE(second && !second->ok());
  EXPECT_TRUE(third && !third->ok());
}

TEST_F(SyncGroupTest, AnErrorThatOthersNoteMeanwhileFailsTheFlush_I11) {
  std::optional<Status> answer;
  begin(answer);
  error_.note(lost());
  end_sync();
  EXPECT_TRUE(answer && !answer->ok()) << "although its sync succeeded";
}

TEST_F(SyncGroupTest, WhatBeganBeforeTheErrorWasForgottenIsNotBelieved_I11) {
  std::optional<Status> running, waiting, fresh;
  begin(running);
  begin(waiting);
  error_.forget();
  begin(fresh);
  end_sync();
  EXPECT_TRUE(running && !running->ok());
  EXPECT_TRUE(waiting && !waiting->ok());
  EXPECT_FALSE(fresh) << "a sync of its own";
  EXPECT_EQ(syncs_, 2);
  end_sync();
  EXPECT_TRUE(fresh && fresh->ok());
}

// Whatever the order in which the loop runs what is ready; sync() and flush_into() check.
TEST_F(SyncGroupTest, ManyFlushesAreCoveredByFewSyncs_I1) {
  timed_ = true;
  for (std::uint64_t seed = 1; seed <= 200; ++seed) {
    random_ = Random(seed);
    syncs_ = 0;
    run_task(loop_, clients());
    EXPECT_LT(syncs_, kClients * kFlushesEach) << "none was shared, seed " << seed;
  }
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/durable_writes.h"

#include <gtest/gtest.h>

#include <optional>

#include "blockmig/base/random.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {
namespace {

Error error_of(ErrorCode code) { return Error(code, "told to"); }

/// A write whose transfers end when they are told to.
struct HeldWrite {
  explicit HeldWrite(EventLoop& loop) : end(loop) {}
  Task<Status> transfer(bool durable) {
    if (!durable) co_return plain;
    began = true;
    co_await end.wait();
    co_return result;
  }
  Event end;
  bool began = false;
  Status result;
  Status plain;  ///< what it answers when it need not be durable
  std::optional<Status> answer;
};

class DurableWritesTest : public testing::Test {
 protected:
  Task<void> write(HeldWrite& held) {
    const auto transfer = [&held](bool durable) { return held.transfer(durable); };
    const Status done = co_await writes_.write(transfer);
    held.answer = done;
  }
  void begin(HeldWrite& held) {
    auto task = write(held);
    scope_.spawn(std::move(task));
    settle();
  }
  void end(HeldWrite& held, Status result = {}) {
    held.result = std::move(result);
    held.end.set();
    settle();
  }
  void settle() {
    for (int i = 0; i < 50; ++i) loop_.step();
  }

  Random random_{1};
  SimLoop loop_{random_};
  StickyError error_;
  DurableWrites writes_{loop_, error_};
  HeldWrite a_{loop_}, b_{loop_}, c_{loop_};
  TaskScope scope_;
};

TEST_F(DurableWritesTest, OneAloneIsAnsweredWhenItEnds) {
  begin(a_);
  EXPECT_FALSE(a_.answer);
  end(a_);
  EXPECT_TRUE(a_.answer && a_.answer->ok());
}

TEST_F(DurableWritesTest, TheSuccessOfOneWaitsForTheVerdictOfThoseItOverlapped_I11) {
  begin(a_);
  begin(b_);
  EXPECT_TRUE(a_.began && b_.began) << "not one after the other";
  end(b_);
  EXPECT_FALSE(b_.answer) << "the other may have been told what this one lost";
  end(a_, error_of(ErrorCode::kIo));
  EXPECT_TRUE(a_.answer && !a_.answer->ok());
  EXPECT_TRUE(b_.answer && !b_.answer->ok());
}

TEST_F(DurableWritesTest, AnOlderOneWaitsForAYoungerOneToo_I11) {
  begin(a_);
  begin(b_);
  end(a_);
  EXPECT_FALSE(a_.answer);
  end(b_, error_of(ErrorCode::kIo));
  EXPECT_TRUE(a_.answer && !a_.answer->ok());
}

TEST_F(DurableWritesTest, AnErrorThatCameFirstFailsTheOnesUnderWayAndLaterOnes_I11) {
  begin(a_);
  begin(b_);
  end(a_, error_of(ErrorCode::kIo));
  end(b_);
  EXPECT_TRUE(b_.answer && !b_.answer->ok());
  begin(c_);
  EXPECT_FALSE(c_.began);
  EXPECT_TRUE(c_.answer && !c_.answer->ok());
  EXPECT_FALSE(error_.verdict(error_.age()).ok()) << "flushes fail too";
}

TEST_F(DurableWritesTest, ALaterOneIsNotWaitedFor) {
  begin(a_);
  begin(b_);
  end(b_);
  begin(c_);
  end(a_);
  EXPECT_FALSE(a_.answer) << "c was under way when it ended";
  EXPECT_TRUE(b_.answer && b_.answer->ok()) << "c began after it had ended";
  end(c_);
  EXPECT_TRUE(a_.answer && a_.answer->ok());
  EXPECT_TRUE(c_.answer && c_.answer->ok());
}

TEST_F(DurableWritesTest, AFullDiskFailsTheWriteOnly) {
  begin(a_);
  begin(b_);
  a_.plain = error_of(ErrorCode::kNoSpace);
  end(a_, error_of(ErrorCode::kNoSpace));
  EXPECT_TRUE(a_.answer && a_.answer->error().code() == ErrorCode::kNoSpace);
  end(b_);
  EXPECT_TRUE(b_.answer && b_.answer->ok());
}

TEST_F(DurableWritesTest, ASyncThatRanOutOfSpaceFailsTheOthers_I11) {
  begin(a_);
  begin(b_);
  end(a_, error_of(ErrorCode::kNoSpace));
  end(b_);
  EXPECT_TRUE(b_.answer && !b_.answer->ok());
}

TEST_F(DurableWritesTest, WhatBeganBeforeTheErrorWasForgottenIsNotBelieved_I11) {
  begin(a_);
  begin(b_);
  end(b_);
  error_.note(error_of(ErrorCode::kIo));
  error_.forget();
  begin(c_);
  end(c_);
  end(a_);
  EXPECT_TRUE(a_.answer && !a_.answer->ok());
  EXPECT_TRUE(b_.answer && !b_.answer->ok());
  EXPECT_TRUE(c_.answer && c_.answer->ok());
}

TEST_F(DurableWritesTest, OneThatWasRefusedSaysNothingAboutOthers) {
  for (const ErrorCode code :
       {ErrorCode::kNotSupported, ErrorCode::kReadOnly, ErrorCode::kInvalid}) {
    HeldWrite refused(loop_);
    begin(refused);
    end(refused, error_of(code));
    EXPECT_TRUE(refused.answer && refused.answer->error().code() == code);
  }
  begin(a_);
  end(a_);
  EXPECT_TRUE(a_.answer && a_.answer->ok());
}

}  // namespace
}  // namespace blockmig

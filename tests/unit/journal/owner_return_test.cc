// SPDX-License-Identifier: Apache-2.0
// Which image a disk may return to: judge_return() of owner_rules.h.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/journal/owner_stamps.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

/// Disk vm1 of "me" wants to go back to what it left with epoch 5, when it became 5.
Status judge_way_back(const std::optional<OwnerStamp>& stamp, bool resumed = false,
                      std::uint64_t size = 100, std::int64_t modified = 7) {
  Claimant claimant = knowing(6);
  claimant.record = 99;
  return judge_return(stamp, claimant, size, modified, resumed);
}

OwnerStamp left_stamp() {
  OwnerStamp left = stamp(StampState::kLeft, 5);
  left.left_size_bytes = 100;
  left.left_modified_ns = 7;
  return left;
}

TEST(OwnerRules, DiskReturnsToWhatItLeftLast) { EXPECT_TRUE(judge_way_back(left_stamp()).ok()); }

TEST(OwnerRules, NothingElseIsReturnedTo_I5) {
  EXPECT_THAT(judge_way_back(std::nullopt).error().message(), HasSubstr("nothing says"));
  for (const StampState state : kAll) {
    if (state == StampState::kLeft) continue;
    OwnerStamp other = left_stamp();
    other.state = state;
    const Status judged = judge_way_back(other);
    ASSERT_FALSE(judged.ok()) << to_string(state);
    EXPECT_EQ(judged.error().code(), ErrorCode::kPrecondition);
    EXPECT_THAT(judged.error().message(), HasSubstr("another mode"));
  }
  OwnerStamp others = left_stamp();
  others.owner = "you";
  EXPECT_FALSE(judge_way_back(others).ok());
  others = left_stamp();
  others.disk = "vm2";
  EXPECT_FALSE(judge_way_back(others).ok());
  for (const std::uint64_t epoch : {1U, 4U, 6U}) {
    OwnerStamp older = left_stamp();
    older.epoch = epoch;
    EXPECT_THAT(judge_way_back(older).error().message(), HasSubstr("moved on since, to epoch 5"));
  }
}

TEST(OwnerRules, EpochsOfADiskThatWasForgottenAreNotTakenForItsOwn_I5) {
  OwnerStamp earlier = left_stamp();
  earlier.token = 98;
  EXPECT_THAT(judge_way_back(earlier).error().message(), HasSubstr("not with what is recorded"));
  EXPECT_FALSE(judge_way_back(earlier, true).ok());
  // Of an older program, on both sides.
  OwnerStamp older = left_stamp();
  older.token = 0;
  EXPECT_THAT(judge_way_back(older).error().message(), HasSubstr("older program"));
  EXPECT_FALSE(judge_return(older, knowing(6), 100, 7, false).ok());
  EXPECT_FALSE(judge_return(left_stamp(), knowing(6), 100, 7, false).ok());
}

TEST(OwnerRules, ImageThatWasChangedIsNotReturnedTo_I5) {
  EXPECT_THAT(judge_way_back(left_stamp(), false, 101).error().message(),
              HasSubstr("somebody has changed"));
  EXPECT_FALSE(judge_way_back(left_stamp(), false, 100, 8).ok());
  EXPECT_FALSE(judge_way_back(left_stamp(), true, 100, 8).ok());
}

TEST(OwnerRules, ImageThatWasNotWholeIsNotReturnedTo) {
  OwnerStamp part = left_stamp();
  part.rest_uri = "file:///a/base.img";
  EXPECT_THAT(judge_way_back(part).error().message(), HasSubstr("was not whole"));
}

TEST(OwnerRules, MoveBackGoesOnAfterARestart) {
  for (const StampState state : {StampState::kTarget, StampState::kTaking}) {
    EXPECT_TRUE(judge_way_back(stamp(state, 6), true).ok());
    EXPECT_FALSE(judge_way_back(stamp(state, 6), false).ok());
    EXPECT_FALSE(judge_way_back(stamp(state, 5), true).ok());
    EXPECT_FALSE(judge_way_back(stamp(state, 6, "you"), true).ok());
  }
  EXPECT_TRUE(judge_way_back(left_stamp(), true).ok());  // it had not begun
}

}  // namespace
}  // namespace blockmig

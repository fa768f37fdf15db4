// SPDX-License-Identifier: Apache-2.0
// Who may use an image: the table of owner_rules.h.
#include "blockmig/journal/owner_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/journal/owner_stamps.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

Claimant stranger() {
  Claimant claimant = knowing(1);
  claimant.owner = "you";
  claimant.known = false;
  return claimant;
}

TEST(OwnerRules, NobodysImageIsTaken) {
  const auto verdict = judge_serve(std::nullopt, stranger());
  ASSERT_TRUE(verdict.ok());
  EXPECT_EQ(verdict->epoch, 1U);
  EXPECT_FALSE(verdict->continued);
}

TEST(OwnerRules, OwnerGoesOnWhereverACrashFell_I7) {
  for (const StampState state :
       {StampState::kCurrent, StampState::kReleased, StampState::kMoving, StampState::kTaking}) {
    const auto verdict = judge_serve(stamp(state), knowing());
    ASSERT_TRUE(verdict.ok()) << to_string(state);
    EXPECT_EQ(verdict->epoch, 5U);
    EXPECT_TRUE(verdict->continued);
  }
}

TEST(OwnerRules, AnUnfinishedCopyIsNotTheDiskWhateverTheJournalSays_I1) {
  // No crash leaves it: it is `taking` before the decision.
  for (const std::uint64_t epoch : {4U, 5U}) {
    const auto refused = judge_serve(stamp(StampState::kTarget, epoch), knowing());
    ASSERT_FALSE(refused.ok()) << epoch;
    EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
    EXPECT_THAT(refused.error().message(), HasSubstr("unfinished copy"));
    EXPECT_THAT(refused.error().message(), HasSubstr("mounted"));
    Claimant forcing = knowing();
    forcing.force = true;
    EXPECT_TRUE(judge_serve(stamp(StampState::kTarget, epoch), forcing)->forced);
  }
}

TEST(OwnerRules, WhatIsRecordedOfAnImageWithUnrecordedWritesIsNotBelieved_I5) {
  for (const StampState state :
       {StampState::kCurrent, StampState::kReleased, StampState::kMoving}) {
    OwnerStamp written = stamp(state);
    written.unrecorded = true;
    const auto verdict = judge_serve(written, knowing());
    ASSERT_TRUE(verdict.ok()) << to_string(state);
    EXPECT_FALSE(verdict->continued) << to_string(state);
  }
}

TEST(OwnerRules, StaleJournalIsRefused_I3) {
  for (const StampState state : kAll) {
    const auto verdict = judge_serve(stamp(state, 6), knowing(5));
    ASSERT_FALSE(verdict.ok()) << to_string(state);
    EXPECT_EQ(verdict.error().code(), ErrorCode::kPrecondition);
    EXPECT_THAT(verdict.error().message(), HasSubstr("journal is older"));
  }
  EXPECT_FALSE(judge_serve(stamp(StampState::kLeft, 5), knowing(5)).ok());
  EXPECT_FALSE(judge_serve(stamp(StampState::kBase, 5), knowing(5)).ok());
}

OwnerStamp incarnation(StampState state, std::uint64_t number, std::uint64_t epoch = 5) {
  OwnerStamp made = stamp(state, epoch);
  made.incarnation = number;
  return made;
}

TEST(OwnerRules, JournalOfAnEarlierIncarnationIsRefusedAtTheSameEpoch_I3) {
  Claimant claimant = knowing();
  claimant.incarnation = 8;
  for (const StampState state : kAll) {
    const auto verdict = judge_serve(incarnation(state, 9), claimant);
    ASSERT_FALSE(verdict.ok()) << to_string(state);
    EXPECT_EQ(verdict.error().code(), ErrorCode::kPrecondition);
    EXPECT_THAT(verdict.error().message(), HasSubstr("journal is older"));
    EXPECT_THAT(verdict.error().message(), HasSubstr("incarnation 9"));
    Claimant forcing = claimant;
    forcing.force = true;
    EXPECT_TRUE(judge_serve(incarnation(state, 9), forcing)->forced) << to_string(state);
  }
  // The stamp is behind after a crash; others count for themselves.
  for (const std::uint64_t number : {0U, 7U, 8U}) {
    const auto verdict = judge_serve(incarnation(StampState::kCurrent, number), claimant);
    EXPECT_TRUE(verdict->continued);
    EXPECT_FALSE(verdict->rolled_back);
  }
  OwnerStamp yours = incarnation(StampState::kReleased, 99);
  yours.owner = "you";
  EXPECT_TRUE(judge_serve(yours, claimant).ok());
  EXPECT_FALSE(judge_base(incarnation(StampState::kBase, 9), claimant).ok());
  EXPECT_TRUE(judge_base(incarnation(StampState::kBase, 8), claimant).ok());
}

TEST(OwnerRules, WhatIsRecordedOfAnImageThatWasPutBackIsNotBelieved_I5) {
  Claimant claimant = knowing();
  claimant.incarnation = 8;
  for (const StampState state :
       {StampState::kCurrent, StampState::kReleased, StampState::kMoving, StampState::kTaking}) {
    for (const std::uint64_t number : {1U, 6U}) {
      const auto verdict = judge_serve(incarnation(state, number), claimant);
      ASSERT_TRUE(verdict.ok()) << to_string(state);
      EXPECT_FALSE(verdict->continued) << to_string(state) << " " << number;
      EXPECT_TRUE(verdict->rolled_back) << to_string(state) << " " << number;
      EXPECT_EQ(verdict->epoch, 5U);
    }
  }
}

TEST(OwnerRules, OneStepBackIsKnownWhereTheJournalSaysWhatWasStamped_I5) {
  Claimant claimant = knowing();
  claimant.incarnation = 8;
  claimant.stamped = 8;
  EXPECT_TRUE(judge_serve(incarnation(StampState::kCurrent, 8), claimant)->continued);
  const auto back = judge_serve(incarnation(StampState::kCurrent, 7), claimant);
  ASSERT_TRUE(back.ok());
  EXPECT_TRUE(back->rolled_back);
  EXPECT_FALSE(back->continued);
  // Crashes between the journal and the stamp, however many: it has nothing to be behind of.
  claimant.stamped = 5;
  EXPECT_TRUE(judge_serve(incarnation(StampState::kCurrent, 5), claimant)->continued);
  EXPECT_TRUE(judge_serve(incarnation(StampState::kCurrent, 6), claimant)->continued);
  EXPECT_FALSE(judge_serve(incarnation(StampState::kCurrent, 4), claimant)->continued);
}

TEST(OwnerRules, JournalFromBeforeTheFirstServeIsRefused_I3) {
  Claimant again = knowing(1);
  again.known = false;
  const auto refused = judge_serve(incarnation(StampState::kCurrent, 1, 1), again);
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("does not know disk 'vm1'"));
  again.force = true;
  EXPECT_EQ(judge_serve(incarnation(StampState::kCurrent, 1, 1), again)->epoch, 2U);
}

TEST(OwnerRules, ClaimThatACrashCutOffBeforeTheJournalSaidSoIsTakenUp_I7) {
  OwnerStamp claimed = incarnation(StampState::kCurrent, 9, 7);
  claimed.unpublished = claimed.unrecorded = true;
  Claimant claimant = knowing();
  claimant.incarnation = 9;
  const auto verdict = judge_serve(claimed, claimant);
  ASSERT_TRUE(verdict.ok()) << verdict.error().message();
  EXPECT_EQ(verdict->epoch, 7U);
  EXPECT_FALSE(verdict->continued);
  claimant.known = false;
  EXPECT_EQ(judge_serve(claimed, claimant)->epoch, 7U);
  claimant.incarnation = 8;  // an old copy
  EXPECT_FALSE(judge_serve(claimed, claimant).ok());
  claimant.known = true;
  EXPECT_FALSE(judge_serve(claimed, claimant).ok());
  claimant.incarnation = 9;
  claimant.owner = "you";
  EXPECT_FALSE(judge_serve(claimed, claimant).ok());
}

TEST(OwnerRules, WhatIsNotWholeIsTakenOnlyByForce) {
  OwnerStamp part = stamp(StampState::kReleased, 5, "");
  part.rest_uri = "file:///a/base.img";
  const auto refused = judge_serve(part, stranger());
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message(), HasSubstr("the rest is at file:///a/base.img"));
  EXPECT_THAT(refused.error().message(), HasSubstr("--force-source"));
  Claimant forcing = stranger();
  forcing.force = true;
  EXPECT_TRUE(judge_serve(part, forcing).ok());
  // Whoever knows of its rest does not know what others have written since.
  Claimant partial = knowing();
  partial.partial = true;
  EXPECT_TRUE(judge_serve(stamp(StampState::kCurrent), partial).ok());
  EXPECT_FALSE(judge_serve(stamp(StampState::kReleased, 7, "you"), partial).ok());
  partial.force = true;
  EXPECT_TRUE(judge_serve(stamp(StampState::kReleased, 7, "you"), partial)->forced);
}

TEST(OwnerRules, JournalThatIsAheadOfItsStampCounts) {
  for (const StampState state : kAll) {
    if (state == StampState::kTarget) continue;  // what is there is not the disk
    const auto verdict = judge_serve(stamp(state, 4), knowing(5));
    ASSERT_TRUE(verdict.ok()) << to_string(state);
    EXPECT_FALSE(verdict->continued) << to_string(state);
  }
}

TEST(OwnerRules, OthersTakeOnlyWhatWasReleased_I3) {
  for (const StampState state : kAll) {
    const auto verdict = judge_serve(stamp(state), stranger());
    ASSERT_EQ(verdict.ok(), state == StampState::kReleased) << to_string(state);
    if (verdict.ok()) {
      EXPECT_EQ(verdict->epoch, 6U);
    } else {
      EXPECT_EQ(verdict.error().code(), ErrorCode::kPrecondition);
      EXPECT_THAT(verdict.error().message(), HasSubstr("--epoch 5 --owner me"));
    }
  }
  // The same folder's other disks are others.
  Claimant other = knowing(1);
  other.disk = "vm2";
  other.known = false;
  EXPECT_FALSE(judge_serve(stamp(StampState::kCurrent), other).ok());
}

TEST(OwnerRules, WhatWasLeftNamesWhereTheDiskIs) {
  const auto verdict = judge_serve(stamp(StampState::kLeft), stranger());
  EXPECT_THAT(verdict.error().message(), HasSubstr("file:///b/new.img since epoch 5"));
}

TEST(OwnerRules, JournalThatNamedItBeforeSomebodyElseHadItIsNotBelieved) {
  const auto verdict = judge_serve(stamp(StampState::kReleased, 7, "you"), knowing(5));
  ASSERT_TRUE(verdict.ok());
  EXPECT_EQ(verdict->epoch, 8U);
  EXPECT_FALSE(verdict->continued);
}

TEST(OwnerRules, ForceGivesUpOnlyWhatIsTheFoldersOwn) {
  Claimant claimant = knowing(6);
  claimant.known = false;
  claimant.force = true;
  for (const StampState state : kAll) {
    EXPECT_TRUE(judge_serve(stamp(state, 5, "me", "vm9"), claimant).ok()) << to_string(state);
    const bool free = state == StampState::kReleased;
    EXPECT_EQ(judge_serve(stamp(state, 5, "you"), claimant).ok(), free) << to_string(state);
  }
  EXPECT_EQ(judge_serve(stamp(StampState::kLeft, 9), claimant)->epoch, 10U);
}

TEST(OwnerRules, ReaderIsKeptFromWhatIsOldOrUnfinished) {
  Claimant reader = stranger();
  reader.read_only = true;
  for (const StampState state : kAll) {
    const bool allowed = state == StampState::kCurrent || state == StampState::kReleased;
    EXPECT_EQ(judge_serve(stamp(state), reader).ok(), allowed) << to_string(state);
  }
}

TEST(OwnerRules, FirstServeThatACrashCutOffIsRepeated) {
  Claimant again = knowing(1);
  again.known = false;
  const auto verdict = judge_serve(stamp(StampState::kCurrent, 1), again);
  ASSERT_TRUE(verdict.ok());
  EXPECT_EQ(verdict->epoch, 1U);
}

TEST(OwnerRules, TargetMayBeWhatNobodyNeeds_I3) {
  const Claimant move = knowing(6);
  Claimant foreign = move;
  foreign.owner = "you";
  for (const StampState state : kAll) {
    EXPECT_EQ(judge_target(stamp(state), move).ok(), state != StampState::kBase)
        << to_string(state);
    const bool free = state == StampState::kTarget || state == StampState::kLeft;
    EXPECT_EQ(judge_target(stamp(state), foreign).ok(), free) << to_string(state);
    // So are the same folder's other disks, whose only copy it is also while nobody serves it.
    EXPECT_EQ(judge_target(stamp(state, 5, "me", "vm2"), move).ok(), free) << to_string(state);
  }
  const auto refused = judge_target(stamp(StampState::kReleased, 5, "me", "vm2"), move);
  EXPECT_THAT(refused.error().message(), HasSubstr("disk 'vm2'"));
  EXPECT_THAT(refused.error().message(), HasSubstr("force-own /a/vm1.img --epoch 5 --owner me"));
  // What its owner was forced to give up.
  EXPECT_TRUE(judge_target(stamp(StampState::kReleased, 6, "", "vm2"), move).ok());
}

TEST(OwnerRules, ImageThatAnotherDiskHasHadSinceIsNotTheDisks_I3) {
  for (const std::string owner : {"me", "you", ""}) {
    const OwnerStamp given = stamp(StampState::kReleased, 7, owner, "vm2");
    const auto refused = judge_serve(given, knowing());
    ASSERT_FALSE(refused.ok()) << owner;
    EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
    EXPECT_THAT(refused.error().message(), HasSubstr("disk 'vm2'"));
    EXPECT_THAT(refused.error().message(), HasSubstr("--force-source"));
    Claimant forcing = knowing();
    forcing.force = true;
    EXPECT_EQ(judge_serve(given, forcing)->epoch, 8U);
    Claimant first = knowing(1);
    first.known = false;
    EXPECT_EQ(judge_serve(given, first)->epoch, 8U) << "whoever names it may have it";
  }
}

TEST(OwnerRules, OnlyTheSameMoveKeepsItsToken_I5) {
  const Claimant move = knowing(6);
  EXPECT_EQ(*judge_target(std::nullopt, move), 0U);
  EXPECT_EQ(*judge_target(stamp(StampState::kTarget, 6), move), 99U);
  EXPECT_EQ(*judge_target(stamp(StampState::kTaking, 6), move), 99U);
  EXPECT_EQ(*judge_target(stamp(StampState::kTarget, 5), move), 0U);
  EXPECT_EQ(*judge_target(stamp(StampState::kLeft, 6), move), 0U);
  EXPECT_EQ(*judge_target(stamp(StampState::kTarget, 6, "you"), move), 0U);
}

TEST(OwnerRules, AnotherFileInThePlaceOfAPartIsNotThePart) {
  Claimant claimant = knowing();
  claimant.replaced = true;
  EXPECT_TRUE(judge_serve(std::nullopt, claimant).ok()) << "a whole disk that was restored";
  EXPECT_THAT(judge_base(std::nullopt, claimant).error().message(), HasSubstr("fetches from"));
  claimant.partial = true;
  const auto refused = judge_serve(std::nullopt, claimant);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
  claimant.force = true;
  EXPECT_TRUE(judge_serve(std::nullopt, claimant)->forced);
}

TEST(OwnerRules, BaseMustStillBeTheDisks) {
  EXPECT_TRUE(judge_base(std::nullopt, knowing()).ok());
  for (const StampState state : kAll) {
    const bool allowed =
        state == StampState::kBase || state == StampState::kMoving || state == StampState::kCurrent;
    EXPECT_EQ(judge_base(stamp(state), knowing()).ok(), allowed) << to_string(state);
    EXPECT_FALSE(judge_base(stamp(state, 5, "you"), knowing()).ok());
  }
}

TEST(OwnerRules, ADiskOnItsWayBackMayStillFetchFromTheImage_I7) {
  EXPECT_TRUE(judge_base(stamp(StampState::kTaking, 6), knowing()).ok());
  EXPECT_FALSE(judge_base(stamp(StampState::kTaking, 7), knowing()).ok());
  EXPECT_FALSE(judge_base(stamp(StampState::kTaking, 6, "you"), knowing()).ok());
}

TEST(OwnerRules, ForceOwnDemandsTheRightProof) {
  const OwnerStamp there = stamp(StampState::kCurrent);
  EXPECT_TRUE(judge_force(there, "/a", 5, "me").ok());
  EXPECT_EQ(judge_force(there, "/a", 4, "me").error().code(), ErrorCode::kPrecondition);
  EXPECT_EQ(judge_force(there, "/a", 5, "you").error().code(), ErrorCode::kPrecondition);
  EXPECT_THAT(judge_force(there, "/a", 0, "").error().message(), HasSubstr("--epoch 5 --owner me"));
  EXPECT_EQ(judge_force(std::nullopt, "/a", 5, "me").error().code(), ErrorCode::kNotFound);
}

}  // namespace
}  // namespace blockmig

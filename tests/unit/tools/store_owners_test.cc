// SPDX-License-Identifier: Apache-2.0
// The stamps that a daemon keeps beside its images, step by step.
#include "tools/daemon/store_owners.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "blockmig/io/task_scope.h"
#include "blockmig/journal/owner_format.h"
#include "tests/unit/tools/owner_folder.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

TEST_F(StoreOwnersTest, IdentityIsMadeOncePerJournal) {
  Folder folder(*loop_, "here");
  Log log(LogForm::kSilent);
  StoreOwners again(*loop_, *folder.journal, log, "here", true);
  ASSERT_TRUE(run_task(*loop_, again.open()).ok());
  EXPECT_EQ(again.id(), folder.owners.id());
  EXPECT_NE(Folder(*loop_, "there").owners.id(), folder.owners.id());
}

TEST_F(StoreOwnersTest, AtNoStepOfAMoveMayAnybodyElseHaveEither_I3) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  const auto closed_to_you = [&] {
    return !yours.claim(source_, 1, false).ok() && !yours.claim(target_, 1, false).ok();
  };
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  EXPECT_EQ(state_of(source_) + ", " + state_of(target_), "current 1, target 2");
  EXPECT_TRUE(closed_to_you());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  EXPECT_EQ(state_of(source_) + ", " + state_of(target_), "moving 1, taking 2");
  EXPECT_TRUE(closed_to_you());
  // A crash here: each journal is let in where it says.
  EXPECT_TRUE(judge_serve(*read_stamp(source_.path),
                          [&] {
                            Claimant who = mine.owners.claimant("vm1", source_, 1);
                            who.known = true;
                            return who;
                          }())
                  .ok());
  run_task(*loop_, mine.owners.confirm(move(2), false, 0));
  EXPECT_EQ(state_of(source_) + ", " + state_of(target_), "left 2, current 2");
  EXPECT_TRUE(closed_to_you());
  EXPECT_FALSE(mine.claim(source_, 1).ok()) << "a journal from before the move";
  mine.release(target_);
  EXPECT_EQ(state_of(target_), "released 2");
  const auto taken = yours.claim(target_, 1, false);
  ASSERT_TRUE(taken.ok());
  EXPECT_EQ(taken->verdict.epoch, 3U);
  EXPECT_FALSE(mine.claim(target_, 2).ok()) << "somebody else's by now";
}

TEST_F(StoreOwnersTest, WhatAReadOnlyDiskHasLeftIsNobodysEither_I3) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  // First without a stamp, then with one that says `released`.
  for (const bool released : {false, true}) {
    std::filesystem::remove(owner_file_of(source_.path));
    std::filesystem::remove(owner_file_of(target_.path));
    if (released) {
      ASSERT_TRUE(mine.claim(source_, 1, false).ok());
      mine.release(source_);
    }
    ASSERT_TRUE(mine.claim(source_, 1, true, true).ok());
    EXPECT_EQ(state_of(source_), released ? "released 1" : "none");
    ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
    ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
    EXPECT_EQ(state_of(source_), "moving 1");
    run_task(*loop_, mine.owners.confirm(move(2), false, 0));
    EXPECT_EQ(state_of(source_), "left 2");
    EXPECT_FALSE(yours.claim(source_, 1, false).ok());
  }
}

TEST_F(StoreOwnersTest, WhatWasReleasedBeforeTheDecisionIsLeftAfterACrash_I3) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  mine.release(source_);
  SourceChoice choice;
  choice.uri = target_.text;
  choice.previous_uri = source_.text;
  choice.epoch = 2;
  const std::string disk = "vm1";
  run_task(*loop_, mine.owners.settle_previous(disk, choice, false, 0));
  EXPECT_EQ(state_of(source_), "left 2");
}

TEST_F(StoreOwnersTest, AnotherFileInTheSourcesPlaceIsNotTheDisk) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  std::filesystem::rename(source_.path, source_.path + ".away");
  scratch_.image("source.img", kSize);
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  run_task(*loop_, mine.owners.confirm(move(2), false, 0));
  EXPECT_EQ(state_of(source_), "none");
}

TEST_F(StoreOwnersTest, MoveWithoutADecisionLeavesTheSourceItsDisk_I8) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 4, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(5))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(5))).ok());
  run_task(*loop_, mine.owners.withdraw(move(5)));
  EXPECT_EQ(state_of(source_) + ", " + state_of(target_), "current 4, target 5");
  run_task(*loop_, mine.owners.drop_target(move(5)));
  EXPECT_EQ(state_of(target_), "none");
}

TEST_F(StoreOwnersTest, NothingIsDecidedForATargetWhoseStampCannotBeChanged_I3) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 4, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(5))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(5))).ok());
  run_task(*loop_, mine.owners.withdraw(move(5)));
  std::ofstream(target_.path + owner_format::kSuffix) << std::string(40000, 'x');
  EXPECT_FALSE(run_task(*loop_, mine.owners.announce(move(5))).ok());
  EXPECT_EQ(state_of(source_), "current 4");
}

Task<void> open_into(UriTarget& target,
                     std::optional<Result<std::unique_ptr<BlockDevice>>>& opened) {
  auto result = co_await target.open(kSize);
  opened.emplace(std::move(result));
}

Task<void> end_of(TaskScope& scope) { co_await scope.join(); }

TEST_F(StoreOwnersTest, ATargetThatIsGivenUpWhileItOpensIsNotClaimed_I9) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  const std::string disk = "vm1";
  const std::uint64_t before = mine.owners.claimant(disk, source_, 1).incarnation;
  UriTarget target(*loop_, plan_of(mine));
  std::optional<Result<std::unique_ptr<BlockDevice>>> opened;
  TaskScope opening;
  auto task = open_into(target, opened);
  opening.spawn(std::move(task));
  ASSERT_FALSE(opened) << "it looks at the target first";
  target.give_up();
  run_task(*loop_, end_of(opening));
  ASSERT_TRUE(opened);
  ASSERT_FALSE(opened->ok());
  EXPECT_EQ(opened->error().code(), ErrorCode::kCancelled);
  EXPECT_EQ(state_of(target_), "none");
  EXPECT_EQ(mine.owners.claimant(disk, source_, 1).incarnation, before);
}

TEST_F(StoreOwnersTest, AMoveThatDiedOnItsWayAndDoesNotGoOnLeavesAnUnfinishedCopy_I7) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 4, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(5))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(5))).ok());
  const std::string disk = "vm1";
  const std::string other = "vm2";
  run_task(*loop_, mine.owners.leave_unfinished(other, target_.text));
  run_task(*loop_, mine.owners.leave_unfinished(disk, source_.text));
  EXPECT_EQ(state_of(source_) + ", " + state_of(target_), "moving 4, taking 5");
  run_task(*loop_, mine.owners.leave_unfinished(disk, target_.text));
  EXPECT_EQ(state_of(target_), "target 5");
  run_task(*loop_, mine.owners.leave_unfinished(disk, target_.text));
  // The source's is put right when the disk is served again.
  ASSERT_TRUE(mine.claim(source_, 4).ok());
  EXPECT_EQ(state_of(source_), "current 4");
}

TEST_F(StoreOwnersTest, DiskReturnsOnlyToWhatIsStillAsItWasLeft_I5) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  run_task(*loop_, mine.owners.confirm(move(2), false, 77));
  const StoreOwners::Move back{"vm1", target_, source_, 3, true, false, false, 77};
  ASSERT_TRUE(mine.owners.check_return(back).ok());
  StoreOwners::Move another = back;
  another.record = 78;
  EXPECT_FALSE(mine.owners.check_return(another).ok()) << "of a disk that was forgotten since";
  EXPECT_FALSE(run_task(*loop_, mine.owners.claim_target(another)).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(back)).ok());
  EXPECT_EQ(state_of(source_), "target 3");
  EXPECT_FALSE(mine.owners.check_return(back).ok());
  StoreOwners::Move resumed = back;
  resumed.resumed = true;
  EXPECT_TRUE(mine.owners.check_return(resumed).ok());
  // It writes there, and comes to nothing.
  const timespec written[2] = {{1000, 0}, {1000, 0}};
  ASSERT_EQ(::utimensat(AT_FDCWD, source_.path.c_str(), written, 0), 0);
  run_task(*loop_, mine.owners.leave_again(back));
  EXPECT_EQ(state_of(source_), "left 2");
  EXPECT_TRUE(mine.owners.check_return(back).ok());
  // So does somebody else.
  const timespec changed[2] = {{1000, 0}, {1000, 1}};
  ASSERT_EQ(::utimensat(AT_FDCWD, source_.path.c_str(), changed, 0), 0);
  EXPECT_THAT(mine.owners.check_return(back).error().message(), HasSubstr("has changed"));
  const auto refused = run_task(*loop_, mine.owners.claim_target(back));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(state_of(source_), "left 2");
  const StoreOwners::Move remote{"vm1", target_, *parse_store_uri("nbd://h/x"), 3, true};
  EXPECT_FALSE(mine.owners.check_return(remote).ok());
}

TEST_F(StoreOwnersTest, CrashAfterTheDecisionIsMadeUpFor_I7) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  SourceChoice choice;
  choice.uri = target_.text;
  choice.previous_uri = source_.text;
  choice.epoch = 2;
  for (const bool needed : {true, false}) {
    ASSERT_TRUE(mine.claim(target_, 2).ok());
    const std::string disk = "vm1";
    run_task(*loop_, mine.owners.settle_previous(disk, choice, needed, 0));
    EXPECT_EQ(state_of(source_) + ", " + state_of(target_), "base 2, current 2");
  }
  const std::string disk = "vm1";
  EXPECT_TRUE(run_task(*loop_, mine.owners.check_base(disk, source_, 2, false)).ok());
  run_task(*loop_, mine.owners.leave_base(disk, source_.text));
  EXPECT_EQ(state_of(source_), "left 2");
  EXPECT_FALSE(run_task(*loop_, mine.owners.check_base(disk, source_, 2, false)).ok());
}

TEST_F(StoreOwnersTest, ABaseThatWasReplacedIsNotFetchedFrom) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  run_task(*loop_, mine.owners.confirm(move(2), true, 0));
  std::filesystem::rename(source_.path, source_.path + ".away");
  scratch_.image("source.img", kSize);
  const std::string disk = "vm1";
  const Status refused = run_task(*loop_, mine.owners.check_base(disk, source_, 2, false));
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("put that one back"));
  EXPECT_TRUE(run_task(*loop_, mine.owners.check_base(disk, source_, 2, true)).ok()) << "digests";
  std::filesystem::remove(owner_file_of(source_.path));
  EXPECT_TRUE(run_task(*loop_, mine.owners.check_base(disk, source_, 2, false)).ok());
}

TEST_F(StoreOwnersTest, WhatWasRecordedOfATargetIsVoidOnceSomebodyElseHadIt_I5) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  const auto first = run_task(*loop_, mine.owners.claim_target(move(2)));
  const auto again = run_task(*loop_, mine.owners.claim_target(move(2)));
  ASSERT_TRUE(first.ok() && again.ok());
  EXPECT_EQ(*first, *again);
  ASSERT_TRUE(run_task(*loop_, yours.owners.claim_target(move(2))).ok());
  const auto late = run_task(*loop_, mine.owners.claim_target(move(2)));
  ASSERT_TRUE(late.ok());
  EXPECT_NE(*first, *late);
}

TEST_F(StoreOwnersTest, WhatWasRecordedOfATargetIsVoidOnceItIsDistrusted_I5) {
  Folder mine(*loop_, "here");
  const std::string disk = "vm1";
  const std::string other = "vm2";
  EXPECT_FALSE(run_task(*loop_, mine.owners.distrust_target(disk, target_)).ok()) << "no stamp";
  const auto first = run_task(*loop_, mine.owners.claim_target(move(2)));
  EXPECT_FALSE(run_task(*loop_, mine.owners.distrust_target(other, target_)).ok());
  EXPECT_EQ(*run_task(*loop_, mine.owners.claim_target(move(2))), *first);
  ASSERT_TRUE(run_task(*loop_, mine.owners.distrust_target(disk, target_)).ok());
  EXPECT_EQ(state_of(target_), "target 2");
  const auto later = run_task(*loop_, mine.owners.claim_target(move(2)));
  ASSERT_TRUE(later.ok());
  EXPECT_NE(*first, *later);
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  EXPECT_TRUE(run_task(*loop_, mine.owners.distrust_target(disk, target_)).ok());
  run_task(*loop_, mine.owners.confirm(move(2), false, 0));
  EXPECT_FALSE(run_task(*loop_, mine.owners.distrust_target(disk, target_)).ok()) << "the disk's";
}

TEST_F(StoreOwnersTest, ADiskGoesBackIntoItsBaseWhichNobodyElseMayHaveMeanwhile_I3) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  // Away: the target is the overlay, the source its base.
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  run_task(*loop_, mine.owners.confirm(move(2), true, 0));
  ASSERT_EQ(state_of(source_), "base 2");
  const std::string disk = "vm1";
  const auto left = look_at_owned_image(source_.path);
  EXPECT_TRUE(run_task(*loop_, mine.owners.is_as_left(disk, source_, kSize, left->modified_ns)));
  EXPECT_FALSE(run_task(*loop_, mine.owners.is_as_left(disk, source_, kSize, 1)));
  // Back.
  StoreOwners::Move back{"vm1", target_, source_, 3};
  EXPECT_FALSE(run_task(*loop_, mine.owners.claim_target(back)).ok()) << "not by another mode";
  back.settling = true;
  EXPECT_TRUE(mine.owners.check_merge(back).ok());
  EXPECT_FALSE(yours.owners.check_merge(back).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(back)).ok());
  EXPECT_EQ(state_of(source_), "base 2") << "a target could be overwritten";
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(back)).ok());
  EXPECT_EQ(state_of(source_), "taking 3");
  EXPECT_EQ(state_of(target_), "moving 2");
  EXPECT_FALSE(yours.claim(source_, 9, false).ok());
  EXPECT_TRUE(run_task(*loop_, yours.owners.is_another_ones(disk, source_)));
  EXPECT_FALSE(run_task(*loop_, mine.owners.is_another_ones(disk, source_)));
  EXPECT_TRUE(run_task(*loop_, mine.owners.check_base(disk, source_, 2, false)).ok())
      << "a restart";
  EXPECT_EQ(state_of(source_), "base 2") << "it came to nothing";
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(back)).ok());
  run_task(*loop_, mine.owners.withdraw(back));
  EXPECT_EQ(state_of(source_), "base 2");
  EXPECT_EQ(state_of(target_), "current 2");
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(back)).ok());
  run_task(*loop_, mine.owners.confirm(back, false, 0));
  EXPECT_EQ(state_of(source_), "current 3");
  EXPECT_EQ(state_of(target_), "left 3");
}

TEST_F(StoreOwnersTest, TargetThatIsSomebodysDiskIsRefusedBeforeItIsOpened) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  ASSERT_TRUE(yours.claim(target_, 1, false).ok());
  TargetPlan plan = plan_of(mine);
  const Status refused = check_target(plan, kSize);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("name another target"));
  yours.release(target_);
  EXPECT_FALSE(check_target(plan, kSize).ok()) << "nobody serves it, but it is a disk";
  std::filesystem::remove(owner_file_of(target_.path));
  EXPECT_TRUE(check_target(plan, kSize).ok());
}

TEST_F(StoreOwnersTest, TargetWhereTheJournalHasAnotherDiskIsRefused) {
  Folder mine(*loop_, "here");
  TargetPlan plan = plan_of(mine);
  const std::string link = target_.path + ".link";
  std::filesystem::create_hard_link(target_.path, link);
  plan.lives = {{"vm2", *parse_store_uri(link)}, {"vm3", *parse_store_uri("nbd://h/x")}};
  const Status refused = check_target(plan, kSize);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code(), ErrorCode::kPrecondition);
  EXPECT_THAT(refused.error().message(), HasSubstr("blockmig detach vm2 --forget"));
  plan.target = *parse_store_uri("nbd://h/x");
  EXPECT_THAT(check_target(plan, kSize).error().message(), HasSubstr("disk 'vm3'"));
  // What the disk itself has used since.
  plan.target = target_;
  ASSERT_TRUE(mine.claim(target_, 1, false).ok());
  EXPECT_TRUE(check_target(plan, kSize).ok());
  // Nothing can be lost where nothing is.
  plan.target = *parse_store_uri(scratch_.path() + "/missing.img");
  plan.lives = {{"vm2", plan.target}};
  EXPECT_TRUE(check_target(plan, kSize).ok());
}

TEST_F(StoreOwnersTest, OneShotCopyLeavesNoStamps) {
  Folder copier(*loop_, "here", false);
  ASSERT_TRUE(run_task(*loop_, copier.owners.claim_target(move(2))).ok());
  ASSERT_TRUE(run_task(*loop_, copier.owners.announce(move(2))).ok());
  EXPECT_EQ(state_of(source_), "none") << "the source was only read";
  run_task(*loop_, copier.owners.confirm(move(2), false, 0));
  copier.release(target_);
  EXPECT_EQ(state_of(target_), "none");
  EXPECT_EQ(state_of(source_), "none");
}

}  // namespace
}  // namespace blockmig

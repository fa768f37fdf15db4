// SPDX-License-Identifier: Apache-2.0
// How a daemon makes a disk's store its own, and gives it back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "blockmig/journal/owner_format.h"
#include "tests/unit/tools/owner_folder.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

class StoreOwnersClaimTest : public StoreOwnersTest {};

TEST_F(StoreOwnersClaimTest, EveryServeAndEveryJobIsANewIncarnation_I3) {
  Folder mine(*loop_, "here");
  const auto stamped = [&](const StoreUri& store) {
    return (*read_stamp(store.path))->incarnation;
  };
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  EXPECT_EQ(stamped(source_), 1U);
  const std::string disk = "vm1";
  run_task(*loop_, mine.owners.trust(disk, source_));
  run_task(*loop_, mine.owners.renew(disk, source_));
  EXPECT_EQ(stamped(source_), 2U);
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  run_task(*loop_, mine.owners.confirm(move(2), true, 0));
  EXPECT_EQ(stamped(target_), 2U);
  EXPECT_EQ((*read_stamp(target_.path))->rest_uri, source_.text);
  run_task(*loop_, mine.owners.note_whole(disk, target_.text));
  EXPECT_EQ((*read_stamp(target_.path))->rest_uri, "");
  // Another life of the same journal.
  StoreOwners again(*loop_, *mine.journal, mine.log, "here", true);
  ASSERT_TRUE(run_task(*loop_, again.open()).ok());
  EXPECT_EQ(again.claimant(disk, target_, 2).incarnation, 2U);
  // An old copy of it: it is refused, and becomes no newer by that.
  JournalBatch old;
  old.notes.push_back(incarnation_note(disk, 1));
  ASSERT_TRUE(run_task(*loop_, mine.journal->commit(old)).ok());
  StoreOwners stale(*loop_, *mine.journal, mine.log, "here", true);
  ASSERT_TRUE(run_task(*loop_, stale.open()).ok());
  ServeRequest request;
  request.disk = disk;
  SourceChoice choice{target_.text, "", 2, "", true};
  for (int i = 0; i < 3; ++i) {
    const auto refused = run_task(*loop_, stale.claim(request, target_, choice));
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message(), HasSubstr("journal is older"));
  }
  request.force_source = true;
  const auto forced = run_task(*loop_, stale.claim(request, target_, choice));
  ASSERT_TRUE(forced.ok());
  EXPECT_TRUE(forced->verdict.forced);
  EXPECT_EQ(stamped(target_), 3U) << "the newer journal is older now";
}

TEST_F(StoreOwnersClaimTest, AnImageThatWasPutBackIsServedAndNothingRecordedIsBelieved_I5) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  const std::string disk = "vm1";
  run_task(*loop_, mine.owners.trust(disk, source_));
  const std::string stamp = source_.path + owner_format::kSuffix;
  const std::string snapshot = scratch_ / "snapshot";
  std::filesystem::copy_file(stamp, snapshot);
  run_task(*loop_, mine.owners.renew(disk, source_));  // one job
  const auto in_place = std::filesystem::copy_options::overwrite_existing;
  std::filesystem::copy_file(snapshot, stamp, in_place);
  const auto back = mine.claim(source_, 1);
  ASSERT_TRUE(back.ok()) << back.error().message();
  EXPECT_TRUE(back->verdict.rolled_back);
  EXPECT_FALSE(back->verdict.continued);
  run_task(*loop_, mine.owners.trust(disk, source_));
  EXPECT_TRUE(mine.claim(source_, 1)->verdict.continued);
}

TEST_F(StoreOwnersClaimTest, WhatComesToNothingIsNotTakenForAnImageThatWasPutBack) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  const std::string disk = "vm1";
  run_task(*loop_, mine.owners.trust(disk, source_));
  for (int tries = 0; tries < 3; ++tries) {
    auto claim = mine.claim(source_, 1);
    ASSERT_TRUE(claim.ok());
    EXPECT_TRUE(claim->verdict.continued) << tries;
    run_task(*loop_, mine.owners.give_back(source_, *std::move(claim)));
  }
  mine.release(source_);
  // Moves of a disk that is served read-only.
  for (int moves = 0; moves < 3; ++moves) run_task(*loop_, mine.owners.renew(disk, source_));
  EXPECT_TRUE(mine.claim(source_, 1)->verdict.continued);
}

// The stamp of a store whose switchover could not be confirmed does not fall behind, or a restart
// would take it for one that was put back.
TEST_F(StoreOwnersClaimTest, JobsOfADiskThatIsTakingAreNotedThere) {
  Folder mine(*loop_, "here");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.claim_target(move(2))).ok());
  ASSERT_TRUE(run_task(*loop_, mine.owners.announce(move(2))).ok());
  const std::string disk = "vm1";
  for (int jobs = 0; jobs < 3; ++jobs) run_task(*loop_, mine.owners.renew(disk, target_));
  EXPECT_EQ(state_of(target_), "taking 2");
  const auto claim = mine.claim(target_, 2);
  ASSERT_TRUE(claim.ok()) << claim.error().message();
  EXPECT_TRUE(claim->verdict.continued);
}

TEST_F(StoreOwnersClaimTest, ClaimThatIsCutOffIsRepeated_I7) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  const std::string disk = "vm1";
  run_task(*loop_, mine.owners.trust(disk, source_));
  mine.release(source_);
  ASSERT_TRUE(yours.claim(source_, 1, false).ok());
  yours.release(source_);
  ASSERT_TRUE(mine.claim(source_, 1).ok());
  EXPECT_EQ(state_of(source_), "current 3");
  // A crash: the journal still says 1.
  const auto again = mine.claim(source_, 1);
  ASSERT_TRUE(again.ok()) << again.error().message();
  EXPECT_EQ(again->verdict.epoch, 3U);
  run_task(*loop_, mine.owners.trust(disk, source_));
  EXPECT_FALSE(mine.claim(source_, 1).ok()) << "the journal has said 3 since";
}

TEST_F(StoreOwnersClaimTest, ServeThatFailsLeavesNoTrace) {
  Folder mine(*loop_, "here");
  auto claimed = mine.claim(source_, 1, false);
  ASSERT_TRUE(claimed.ok());
  run_task(*loop_, mine.owners.give_back(source_, *claimed));
  EXPECT_EQ(state_of(source_), "none");
}

TEST_F(StoreOwnersClaimTest, ServeThatFailsLeavesWhatSomebodyElseHasClaimedSince_I3) {
  Folder mine(*loop_, "here");
  Folder other(*loop_, "there");
  const auto claimed = mine.claim(source_, 1, false);
  ASSERT_TRUE(claimed.ok());
  const StampChange release = [](const std::optional<OwnerStamp>&) {
    return Result<std::optional<OwnerStamp>>(std::nullopt);
  };
  ASSERT_TRUE(change_stamp(source_.path, release).ok());
  ASSERT_TRUE(other.claim(source_, 1, false).ok());
  run_task(*loop_, mine.owners.give_back(source_, *claimed));
  const auto left = read_stamp(source_.path);
  ASSERT_TRUE(left.ok() && left->has_value());
  EXPECT_EQ((*left)->owner, other.owners.id());
}

TEST_F(StoreOwnersClaimTest, FolderThatTakesNoStampIsServedAndSaysSo) {
  ASSERT_EQ(::chmod(source_.path.c_str(), 0666), 0);
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0555), 0);
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);  // root may write anywhere
  }
  Folder mine(*loop_, "here");
  const auto claimed = mine.claim(source_, 1, false);
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0755), 0);
  ASSERT_TRUE(claimed.ok()) << claimed.error().message();
  EXPECT_FALSE(claimed->stamped);
  EXPECT_THAT(mine.owners.describe(source_.text), HasSubstr("not stamped"));
  EXPECT_THAT(mine.owners.describe("nbd://h/x"), HasSubstr("only files are"));
}

TEST_F(StoreOwnersClaimTest, WhatAStampSaysCountsAlsoWhereItCannotBeChanged_I5) {
  Folder mine(*loop_, "here");
  Folder yours(*loop_, "there");
  ASSERT_TRUE(mine.claim(source_, 1, false).ok());
  mine.release(source_);
  ASSERT_TRUE(yours.claim(source_, 1, false).ok());
  yours.release(source_);
  ASSERT_EQ(state_of(source_), "released 2");
  ASSERT_EQ(::chmod(owner_file_of(source_.path).c_str(), 0444), 0);
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0555), 0);
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);  // root may write anywhere
  }
  const auto claimed = mine.claim(source_, 1);
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ASSERT_EQ(::chmod(scratch_.path().c_str(), 0755), 0);
  ASSERT_TRUE(claimed.ok()) << claimed.error().message();
  EXPECT_FALSE(claimed->stamped);
  EXPECT_TRUE(claimed->judged);
  EXPECT_FALSE(claimed->verdict.continued) << "somebody else has had it";
  EXPECT_EQ(claimed->verdict.epoch, 3U);
}

TEST_F(StoreOwnersClaimTest, StampThatCannotBeReadIsAnErrorNotNobody_I11) {
  Folder mine(*loop_, "here");
  std::ofstream(source_.path + owner_format::kSuffix) << std::string(40000, 'z');
  const auto claimed = mine.claim(source_, 1, false);
  ASSERT_FALSE(claimed.ok());
  EXPECT_EQ(claimed.error().code(), ErrorCode::kProtocol);
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// That a save is synced, and what a failing sync does. This file's fdatasync() takes the place of
// the C library's in this test program, RocksDB's calls included: it counts, and fails when told
// to.
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "tests/unit/journal/journal_folder.h"

namespace {
std::atomic<int> sync_calls{0};
std::atomic<int> syncs_to_fail{0};
}  // namespace

extern "C" int fdatasync(int fd) {
  ++sync_calls;
  if (syncs_to_fail.load() > 0) {
    --syncs_to_fail;
    errno = EIO;
    return -1;
  }
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

namespace blockmig {
namespace {

class JournalSyncTest : public JournalFolder {};

TEST_F(JournalSyncTest, EverySaveIsSyncedBeforeItsReply_I1_Trap19) {
  const auto journal = open();
  for (std::uint64_t epoch = 1; epoch <= 20; ++epoch) {
    const int before = sync_calls.load();
    ASSERT_TRUE(save(*journal, disk("a", epoch)).ok());
    ASSERT_GE(sync_calls.load(), before + 1);
  }
  int before = sync_calls.load();
  EXPECT_TRUE(save(*journal, job("j", 1)).ok());
  EXPECT_GE(sync_calls.load(), before + 1);
  before = sync_calls.load();
  EXPECT_TRUE(run_task(loop_, journal->remove_disk("a")).ok());
  EXPECT_GE(sync_calls.load(), before + 1);
}

TEST_F(JournalSyncTest, LoadsDoNotSync) {
  const auto journal = open();
  EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
  const int before = sync_calls.load();
  EXPECT_EQ(disks(*journal).size(), 1U);
  EXPECT_EQ(sync_calls.load(), before);
}

// The first sync fails, a second one would succeed and prove nothing: the kernel has dropped the
// pages.
TEST_F(JournalSyncTest, AFailedSyncIsAFailedSaveAndStaysOne_I11) {
  {
    const auto journal = open();
    EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
    EXPECT_TRUE(journal->health().ok());
    syncs_to_fail = 1;
    const Status failed = save(*journal, disk("a", 2));
    EXPECT_EQ(syncs_to_fail.load(), 0);
    ASSERT_FALSE(failed.ok());
    EXPECT_EQ(failed.error().code(), ErrorCode::kIo);
    EXPECT_FALSE(not_attempted(failed.error()));
    ASSERT_FALSE(journal->health().ok());
    EXPECT_EQ(journal->health().error().message(), failed.error().message());
    for (int i = 0; i < 3; ++i) {
      const Status refused = save(*journal, disk("b", 1));
      ASSERT_FALSE(refused.ok());
      EXPECT_TRUE(not_attempted(refused.error())) << "the owner of b is as it was";
    }
    EXPECT_FALSE(run_task(loop_, journal->remove_disk("a")).ok());
    EXPECT_FALSE(run_task(loop_, journal->load_disks()).ok());
    EXPECT_FALSE(run_task(loop_, journal->load_disk("a")).ok());
    EXPECT_FALSE(run_task(loop_, journal->load_jobs()).ok());
  }
  const auto journal = open();
  ASSERT_NE(journal, nullptr);
  const std::vector<DiskRecord> now = disks(*journal);
  ASSERT_EQ(now.size(), 1U) << "nothing of what was refused";
  EXPECT_TRUE(now[0] == disk("a", 1) || now[0] == disk("a", 2)) << "unknown, but one of the two";
}

TEST_F(JournalSyncTest, AFailedSyncOfTheFirstStartIsNotAJournal) {
  syncs_to_fail = 1000;
  EXPECT_FALSE(try_open().ok());
  syncs_to_fail = 0;
  const auto journal = open();
  ASSERT_NE(journal, nullptr);
  EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
}

}  // namespace
}  // namespace blockmig

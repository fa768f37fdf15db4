// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <vector>

#include "blockmig/io/task_scope.h"
#include "tests/unit/journal/journal_folder.h"

namespace blockmig {
namespace {

class MemoryJournalTest : public JournalFolder {};

TEST_F(MemoryJournalTest, KeepsRecords) {
  const auto journal = make_memory_journal(loop_);
  EXPECT_TRUE(save(*journal, disk("b", 1)).ok());
  EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
  EXPECT_TRUE(save(*journal, disk("b", 2)).ok());
  EXPECT_TRUE(save(*journal, job("a", 9)).ok());
  EXPECT_EQ(disks(*journal), (std::vector<DiskRecord>{disk("a", 1), disk("b", 2)}));
  EXPECT_EQ(jobs(*journal), (std::vector<JobRecord>{job("a", 9)}));
  const auto one = run_task(loop_, journal->load_disk("b"));
  ASSERT_TRUE(one.ok());
  EXPECT_EQ(*one, disk("b", 2));
  EXPECT_TRUE(run_task(loop_, journal->remove_disk("b")).ok());
  const auto none = run_task(loop_, journal->load_disk("b"));
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, std::nullopt);
}

TEST_F(MemoryJournalTest, KeepsRegionsAndHydrations) {
  const auto journal = make_memory_journal(loop_);
  expect_regions_kept(*journal);
}

TEST_F(MemoryJournalTest, RefusesWhatRocksJournalRefuses) {
  const auto journal = make_memory_journal(loop_);
  EXPECT_EQ(save(*journal, disk("", 1)).error().code(), ErrorCode::kInvalid);
}

Task<void> save_and_tell(Journal& journal, const DiskRecord& record, bool& told) {
  const Status saved = co_await journal.save_disk(record);
  told = saved.ok();
}

Task<void> count_disks(Journal& journal, std::size_t& count) {
  const auto all = co_await journal.load_disks();
  count = all.ok() ? all->size() : 0;
}

// A simulated crash must be able to fall before the save happened, and between that and its reply.
TEST_F(MemoryJournalTest, ASaveTakesTimeBeforeAndAfterItHappens) {
  bool seen_absent = false;
  bool seen_present_untold = false;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Random random(seed);
    SimLoop loop(random);
    const auto journal = make_memory_journal(loop);
    const DiskRecord record = disk("a", 1);
    bool told = false;
    std::size_t count = 0;
    TaskScope scope;
    scope.spawn(save_and_tell(*journal, record, told));
    EXPECT_FALSE(told);
    scope.spawn(count_disks(*journal, count));
    while (scope.running() == 2) ASSERT_TRUE(loop.step());
    if (!told && count == 0) seen_absent = true;
    if (!told && count == 1) seen_present_untold = true;
    while (scope.running() > 0) ASSERT_TRUE(loop.step());
    EXPECT_TRUE(told);
  }
  EXPECT_TRUE(seen_absent);
  EXPECT_TRUE(seen_present_untold);
}

}  // namespace
}  // namespace blockmig

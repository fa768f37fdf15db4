// SPDX-License-Identifier: Apache-2.0
// Room that is taken for a save before it is made.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "tests/unit/journal/journal_folder.h"

namespace blockmig {
namespace {

class JournalRoom : public JournalFolder {};

/// The log that is written to: of the highest number.
std::filesystem::path newest_log(const std::string& folder) {
  std::filesystem::path newest;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".log" && entry.path() > newest) newest = entry.path();
  }
  return newest;
}

TEST_F(JournalRoom, RoomThatIsTakenIsBehindTheEndOfTheLog) {
  {
    const auto journal = open();
    ASSERT_TRUE(save(*journal, disk("a", 1)).ok());
    JournalBatch batch;
    batch.disks.push_back(disk("a", 2));
    batch.notes.push_back({"room", "n", std::string(200'000, 'x')});
    const std::filesystem::path log = newest_log(folder());
    const auto size = std::filesystem::file_size(log);
    const Status reserved = run_task(loop_, journal->reserve(batch));
    ASSERT_TRUE(reserved.ok()) << reserved.error().message();
    EXPECT_EQ(newest_log(folder()), log);
    EXPECT_EQ(std::filesystem::file_size(log), size);
    struct stat facts {};
    ASSERT_EQ(::stat(log.c_str(), &facts), 0);
    const auto allocated = static_cast<std::uint64_t>(facts.st_blocks) * 512;
    if (allocated < size + 200'000) GTEST_SKIP() << "a filesystem that promises no room";
    ASSERT_TRUE(run_task(loop_, journal->commit(batch)).ok());
    EXPECT_EQ(newest_log(folder()), log) << "and the batch is there";
    EXPECT_GE(std::filesystem::file_size(log), size + 200'000);
    EXPECT_EQ(disks(*journal).front().epoch, 2u);
  }
  EXPECT_EQ(disks(*open()).front().epoch, 2u);
}

TEST_F(JournalRoom, RoomIsNotTakenInALogThatTheNextSaveWouldLeave) {
  const auto journal = open();
  JournalBatch large;
  large.notes.push_back({"room", "n", std::string(600'000, 'x')});
  ASSERT_TRUE(run_task(loop_, journal->commit(large)).ok());
  JournalBatch batch;
  batch.disks.push_back(disk("a", 2));
  ASSERT_TRUE(run_task(loop_, journal->reserve(batch)).ok());
  const std::filesystem::path log = newest_log(folder());
  ASSERT_TRUE(run_task(loop_, journal->commit(large)).ok());
  ASSERT_TRUE(run_task(loop_, journal->commit(batch)).ok());
  EXPECT_EQ(newest_log(folder()), log);
}

}  // namespace
}  // namespace blockmig

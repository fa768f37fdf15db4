// SPDX-License-Identifier: Apache-2.0
// What a crash and what damage leave of a journal (trap 19): a torn tail did not happen, damage
// elsewhere stops the start, and no acknowledged save is ever silently gone.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <set>
#include <string>
#include <vector>

#include "blockmig/journal/wal_check.h"
#include "tests/unit/journal/journal_folder.h"

namespace blockmig {
namespace {

class JournalCrashTest : public JournalFolder {
 protected:
  static constexpr std::uint64_t kSaves = 6;

  /// A journal that crashed after `kSaves` saves: "crashed", with all of them in its log.
  /// ends_[i] is the log's size after save i.
  void crash_after_saves() {
    { const auto journal = open(); }
    const auto journal = open();
    ends_.push_back(0);
    for (std::uint64_t epoch = 1; epoch <= kSaves; ++epoch) {
      ASSERT_TRUE(save(*journal, disk("d", epoch)).ok());
      ends_.push_back(std::filesystem::file_size(wal()));
    }
    copy_journal("j", "crashed");
    log_ = read_file(wal("crashed"));
    ASSERT_EQ(log_.size(), ends_.back());
  }
  /// A copy of the crashed journal with another log.
  void with_log(const std::string& content) {
    copy_journal("crashed", "cut");
    write_file(wal("cut"), content);
  }
  /// The epoch of the one disk in "cut"; 0 if there is none; an error if it is refused.
  Result<std::uint64_t> surviving_epoch() {
    auto journal = try_open("cut");
    if (!journal) return journal.error();
    const std::vector<DiskRecord> all = disks(**journal);
    if (all.empty()) return std::uint64_t{0};
    EXPECT_EQ(all, (std::vector<DiskRecord>{disk("d", all[0].epoch)}));
    return all[0].epoch;
  }

  std::vector<std::uint64_t> ends_;
  std::string log_;
};

TEST_F(JournalCrashTest, ACrashLosesNothingThatWasSaved_I1) {
  crash_after_saves();
  with_log(log_);
  const auto epoch = surviving_epoch();
  ASSERT_TRUE(epoch.ok()) << epoch.error().message();
  EXPECT_EQ(*epoch, kSaves);
}

TEST_F(JournalCrashTest, ALogCutAtAnyByteIsTheSavesBeforeTheCut_Trap19) {
  crash_after_saves();
  for (std::size_t size = 0; size <= log_.size(); ++size) {
    with_log(log_.substr(0, size));
    std::uint64_t whole = 0;
    while (whole < kSaves && ends_[whole + 1] <= size) ++whole;
    const auto epoch = surviving_epoch();
    ASSERT_TRUE(epoch.ok()) << "cut at " << size << ": " << epoch.error().message();
    ASSERT_EQ(*epoch, whole) << "cut at " << size;
    const auto again = surviving_epoch();
    ASSERT_TRUE(again.ok() && *again == whole) << "the second start after the crash";
  }
}

TEST_F(JournalCrashTest, EveryFlippedByteStopsTheStart_Trap19) {
  crash_after_saves();
  for (std::size_t at = 0; at < log_.size(); ++at) {
    std::string flipped = log_;
    flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
    with_log(flipped);
    const auto epoch = surviving_epoch();
    ASSERT_FALSE(epoch.ok()) << "byte " << at << ": opened with epoch " << *epoch;
    ASSERT_EQ(epoch.error().code(), ErrorCode::kProtocol) << epoch.error().message();
    ASSERT_NE(epoch.error().message().find(".log"), std::string::npos) << "names the file";
  }
}

TEST_F(JournalCrashTest, RefusingChangesNothing) {
  crash_after_saves();
  std::string flipped = log_;
  flipped[ends_[2] + 4] = static_cast<char>(flipped[ends_[2] + 4] ^ 0x40);  // a length field
  with_log(flipped);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(surviving_epoch().ok());
  EXPECT_EQ(read_file(wal("cut")), flipped);
  with_log(log_);
  EXPECT_EQ(*surviving_epoch(), kSaves);
}

TEST_F(JournalCrashTest, AZeroedSectorInTheLogStopsTheStart) {
  crash_after_saves();
  ASSERT_GT(log_.size(), 600U);
  std::string zeroed = log_;
  std::fill(zeroed.begin() + static_cast<std::ptrdiff_t>(ends_[1]),
            zeroed.begin() + static_cast<std::ptrdiff_t>(ends_[3]), '\0');
  with_log(zeroed);
  const auto epoch = surviving_epoch();
  ASSERT_FALSE(epoch.ok()) << *epoch;
  EXPECT_EQ(epoch.error().code(), ErrorCode::kProtocol);
}

TEST_F(JournalCrashTest, ATailOfZerosDidNotHappen) {
  crash_after_saves();
  with_log(log_ + std::string(5000, '\0'));
  const auto epoch = surviving_epoch();
  ASSERT_TRUE(epoch.ok()) << epoch.error().message();
  EXPECT_EQ(*epoch, kSaves);
}

TEST_F(JournalCrashTest, AMissingFileStopsTheStart) {
  crash_after_saves();
  for (const std::string name : {".log", ".sst", "CURRENT"}) {
    copy_journal("crashed", "cut");
    for (const auto& entry : std::filesystem::directory_iterator(folder("cut"))) {
      if (entry.path().string().ends_with(name)) std::filesystem::remove(entry.path());
    }
    expect_refused(ErrorCode::kProtocol, "missing", "cut");
    expect_refused(ErrorCode::kProtocol, "missing", "cut");  // and not only the first time
  }
}

TEST_F(JournalCrashTest, DamageToTablesAndManifestStopsTheStart) {
  crash_after_saves();
  {
    const auto journal = open("crashed");  // its recovery moves the saves into a table
  }
  std::set<std::string> damaged_kinds;
  for (const auto& entry : std::filesystem::directory_iterator(folder("crashed"))) {
    const std::string name = entry.path().filename().string();
    const bool table = entry.path().extension() == ".sst";
    if (!table && !name.starts_with("MANIFEST-")) continue;
    damaged_kinds.insert(table ? "table" : "manifest");
    const std::string healthy = read_file(entry.path());
    // A manifest's every byte; of a table, the data block, which holds the records.
    const std::size_t most = table ? 60 : healthy.size();
    for (std::size_t at = 0; at < most; ++at) {
      copy_journal("crashed", "cut");
      std::string flipped = healthy;
      flipped[at] = static_cast<char>(flipped[at] ^ (1 << (at % 8)));
      write_file(root_ / "cut" / name, flipped);
      ASSERT_FALSE(surviving_epoch().ok()) << name << " byte " << at;
    }
  }
  EXPECT_EQ(damaged_kinds.size(), 2U);
}

TEST_F(JournalCrashTest, ACrashOfTheFirstStartIsAFreshJournal) {
  // The marker is written last: without it whatever is there was never used.
  { const auto journal = open(); }
  for (const std::string keep : {"", "lock", "lock CURRENT MANIFEST"}) {
    copy_journal("j", "cut");
    for (const auto& entry : std::filesystem::directory_iterator(folder("cut"))) {
      const std::string name = entry.path().filename().string();
      const std::string stem = name.substr(0, name.find('-'));
      if (keep.find(stem) == std::string::npos) std::filesystem::remove(entry.path());
    }
    if (keep.find("CURRENT") != std::string::npos) continue;  // needs its table, as any RocksDB
    auto journal = try_open("cut");
    ASSERT_TRUE(journal.ok()) << keep << ": " << journal.error().message();
    EXPECT_TRUE(save(**journal, disk("d", 1)).ok());
  }
  copy_journal("j", "cut");
  std::filesystem::remove(root_ / "cut" / "initialised");
  EXPECT_TRUE(try_open("cut").ok());
  EXPECT_TRUE(std::filesystem::exists(root_ / "cut" / "initialised"));
}

// The child of the test below: saves epoch after epoch and says so, until it is killed. Without the
// fixture, whose folder would be left behind.
TEST(JournalCrashChild, DISABLED_SavesUntilKilled) {
  const char* where = std::getenv("BLOCKMIG_TEST_JOURNAL");
  const char* first = std::getenv("BLOCKMIG_TEST_EPOCH");
  ASSERT_TRUE(where != nullptr && first != nullptr);
  Random random(1);
  SimLoop loop(random);
  auto journal = open_rocks_journal(loop, where);
  ASSERT_TRUE(journal.ok()) << journal.error().message();
  for (std::uint64_t epoch = std::strtoull(first, nullptr, 10);; ++epoch) {
    const DiskRecord record{"d", "file:///x", epoch, 4096, ""};
    ASSERT_TRUE(run_task(loop, (*journal)->save_disk(record)).ok());
    ASSERT_EQ(::write(3, &epoch, sizeof epoch), static_cast<ssize_t>(sizeof epoch));
  }
}

TEST_F(JournalCrashTest, KilledAtRandomEverySaveThatWasAcknowledgedIsThere_I1) {
  std::uint64_t acknowledged = 0;
  for (int round = 0; round < 12; ++round) {
    int pipe_fds[2];
    ASSERT_EQ(::pipe2(pipe_fds, O_CLOEXEC), 0);
    const std::string epoch = std::to_string(acknowledged + 1);
    ::setenv("BLOCKMIG_TEST_JOURNAL", folder().c_str(), 1);
    ::setenv("BLOCKMIG_TEST_EPOCH", epoch.c_str(), 1);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // dup2() to 3 clears close-on-exec, unless the pipe is 3 already.
      if (pipe_fds[1] == 3) ::fcntl(3, F_SETFD, 0);
      if (pipe_fds[1] != 3) ::dup2(pipe_fds[1], 3);
      const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
      ::dup2(null, 1);
      ::execl("/proc/self/exe", "unit_journal", "--gtest_also_run_disabled_tests",
              "--gtest_filter=JournalCrashChild.DISABLED_SavesUntilKilled", nullptr);
      ::_exit(127);
    }
    ::close(pipe_fds[1]);
    const std::uint64_t wanted = 1 + random_.below(60);
    std::uint64_t seen = 0;
    std::uint64_t value = 0;
    while (seen < wanted && ::read(pipe_fds[0], &value, sizeof value) == sizeof value) {
      acknowledged = value;
      ++seen;
    }
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << "the child ended by itself";
    while (::read(pipe_fds[0], &value, sizeof value) == sizeof value) acknowledged = value;
    ::close(pipe_fds[0]);

    const auto journal = open();
    ASSERT_NE(journal, nullptr);
    const std::vector<DiskRecord> all = disks(*journal);
    ASSERT_EQ(all.size(), 1U);
    // The save in flight may have happened; nothing acknowledged may be missing.
    ASSERT_TRUE(all[0].epoch == acknowledged || all[0].epoch == acknowledged + 1)
        << all[0].epoch << " after " << acknowledged;
    acknowledged = all[0].epoch;
  }
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// JournalFolder: a temporary folder for one test, with what the journal's tests do to journals:
// open them, copy them as a crash would leave them, and damage their files.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/run_task.h"
#include "blockmig/io/sim_loop.h"
#include "blockmig/journal/journal.h"
#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {

class JournalFolder : public ::testing::Test {
 protected:
  using Path = std::filesystem::path;

  std::string folder(const std::string& name = "j") const { return (root_ / name).string(); }

  Result<std::unique_ptr<Journal>> try_open(const std::string& name = "j") {
    return open_rocks_journal(loop_, folder(name));
  }
  std::unique_ptr<Journal> open(const std::string& name = "j") {
    auto journal = try_open(name);
    EXPECT_TRUE(journal.ok()) << (journal.ok() ? "" : journal.error().message());
    return journal.ok() ? *std::move(journal) : nullptr;
  }
  void expect_refused(ErrorCode code, const std::string& part, const std::string& name = "j") {
    const auto journal = try_open(name);
    ASSERT_FALSE(journal.ok());
    EXPECT_EQ(journal.error().code(), code) << journal.error().message();
    EXPECT_NE(journal.error().message().find(part), std::string::npos) << journal.error().message();
    EXPECT_NE(journal.error().message().find(folder(name)), std::string::npos)
        << "names the folder: " << journal.error().message();
  }

  static DiskRecord disk(const std::string& name, std::uint64_t epoch) {
    return {name, "file:///srv/" + name + ".img", epoch, 4096 + epoch, "file:///old"};
  }
  static JobRecord job(const std::string& id, std::uint64_t attempt) {
    return {id, "disk0", "dbt", "nbd://h/x", "running", attempt, R"({"state":"running"})"};
  }

  Status save(Journal& journal, const DiskRecord& record) {
    return run_task(loop_, journal.save_disk(record));
  }
  Status save(Journal& journal, const JobRecord& record) {
    return run_task(loop_, journal.save_job(record));
  }
  std::vector<RegionContainer> regions(Journal& journal, std::string disk, std::string name) {
    const auto all = run_task(loop_, journal.load_regions(disk, name));
    EXPECT_TRUE(all.ok());
    return all.ok() ? *all : std::vector<RegionContainer>();
  }
  static RegionContainer container(std::uint32_t index, std::uint8_t bits) {
    return {index, {std::byte{bits}}};
  }
  /// What any journal does with region sets and hydrations.
  void expect_regions_kept(Journal& journal) {
    const RegionChange first{"d", "n", {container(2, 7), container(0x10000, 1)}, {}};
    const RegionChange other{"d", "m", {container(2, 9)}, {}};
    const RegionChange stranger{"d2", "n", {container(2, 5)}, {}};
    for (const RegionChange* change : {&first, &other, &stranger}) {
      EXPECT_TRUE(run_task(loop_, journal.change_regions(*change)).ok());
    }
    const RegionChange second{"d", "n", {container(0, 3)}, {2, 77}};
    EXPECT_TRUE(run_task(loop_, journal.change_regions(second)).ok());
    EXPECT_EQ(regions(journal, "d", "n"),
              (std::vector<RegionContainer>{container(0, 3), container(0x10000, 1)}));
    const std::string name = "d";
    const std::string set = "m";
    EXPECT_TRUE(run_task(loop_, journal.remove_regions(name, set)).ok());
    EXPECT_TRUE(run_task(loop_, journal.remove_regions(name, set)).ok());
    EXPECT_TRUE(regions(journal, "d", "m").empty());
    EXPECT_EQ(regions(journal, "d2", "n").size(), 1U);
    const HydrationRecord hydration{"d", 3, "file:///a", 65536, true, "n", "mig-1"};
    EXPECT_TRUE(run_task(loop_, journal.save_hydration(hydration)).ok());
    const auto loaded = run_task(loop_, journal.load_hydration(name));
    ASSERT_TRUE(loaded.ok());
    EXPECT_EQ(*loaded, hydration);
    EXPECT_TRUE(run_task(loop_, journal.remove_hydration(name)).ok());
    const auto gone = run_task(loop_, journal.load_hydration(name));
    ASSERT_TRUE(gone.ok());
    EXPECT_EQ(*gone, std::nullopt);
  }
  std::vector<DiskRecord> disks(Journal& journal) {
    const auto all = run_task(loop_, journal.load_disks());
    EXPECT_TRUE(all.ok());
    return all.ok() ? *all : std::vector<DiskRecord>();
  }
  std::vector<JobRecord> jobs(Journal& journal) {
    const auto all = run_task(loop_, journal.load_jobs());
    EXPECT_TRUE(all.ok());
    return all.ok() ? *all : std::vector<JobRecord>();
  }

  /// What a crash between two saves leaves: the files as they are. An open journal's background
  /// thread may delete leftovers meanwhile.
  void copy_journal(const std::string& from, const std::string& to) const {
    std::filesystem::remove_all(root_ / to);
    std::filesystem::create_directory(root_ / to);
    for (const auto& entry : std::filesystem::directory_iterator(root_ / from)) {
      std::error_code failed;
      std::filesystem::copy_file(entry.path(), root_ / to / entry.path().filename(), failed);
      EXPECT_TRUE(!failed || failed == std::errc::no_such_file_or_directory) << failed.message();
    }
  }
  std::vector<Path> files(const std::string& name, const std::string& extension) const {
    std::vector<Path> found;
    for (const auto& entry : std::filesystem::directory_iterator(root_ / name)) {
      if (entry.path().extension() == extension) found.push_back(entry.path());
    }
    return found;
  }
  /// The write-ahead log with saves in it. Waits until the background thread has deleted the one
  /// before, if there was one.
  Path wal(const std::string& name = "j") const {
    for (int i = 0; i < 10'000; ++i) {
      std::vector<Path> with_content;
      for (const Path& path : files(name, ".log")) {
        std::error_code gone;
        const auto size = std::filesystem::file_size(path, gone);
        if (!gone && size > 0) with_content.push_back(path);
      }
      if (with_content.size() == 1) return with_content[0];
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    ADD_FAILURE() << "no log, or several, in " << folder(name);
    return {};
  }
  static std::string read_file(const Path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  }
  static void write_file(const Path& path, const std::string& content) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    file << content;
  }

  /// In memory where that exists: thousands of opens, each with its fsyncs.
  const TemporaryFolder folder_{std::filesystem::is_directory("/dev/shm") ? "/dev/shm" : "/tmp"};
  const Path root_ = folder_.path();
  Random random_{1};
  SimLoop loop_{random_};
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/durable_file.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>

#include "tests/unit/shared/temporary_folder.h"

namespace blockmig {
namespace {

ConstBytes bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class DurableFile : public testing::Test {
 protected:
  TemporaryFolder folder_;
  const std::string path_ = folder_ / "record";
};

TEST(ParentFolder, IsWhatComesBeforeTheLastSlash) {
  EXPECT_EQ(parent_folder("/srv/a.img"), "/srv");
  EXPECT_EQ(parent_folder("/a.img"), "/");
  EXPECT_EQ(parent_folder("a.img"), ".");
}

TEST_F(DurableFile, FoldersAreSyncedByTheirNameOrByWhatIsInThem) {
  EXPECT_TRUE(sync_folder(folder_.path()).ok());
  EXPECT_TRUE(sync_folder_of(path_).ok()) << "the file itself need not be there";
  EXPECT_TRUE(sync_folder_of("a.img").ok()) << "the current folder";
}

TEST_F(DurableFile, WhatIsNoFolderIsSaidWithItsName) {
  const Status missing = sync_folder(folder_ / "none");
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code(), ErrorCode::kNotFound);
  EXPECT_NE(missing.error().message().find("none"), std::string::npos);
  ASSERT_TRUE(write_durably(path_, {}, 0600).ok());
  const Status file = sync_folder(path_);
  ASSERT_FALSE(file.ok());
  EXPECT_EQ(file.error().os_errno(), ENOTDIR);
}

TEST(SyncFolder, AFilesystemThatCannotSyncFoldersIsNoError) {
  // sysfs has no such operation, and says EINVAL; what has one returns 0. Either way it is no
  // error.
  if (!std::filesystem::is_directory("/sys/kernel")) GTEST_SKIP() << "no sysfs here";
  EXPECT_TRUE(sync_folder("/sys/kernel").ok());
  if (!std::filesystem::is_directory("/proc/self")) GTEST_SKIP() << "no procfs here";
  EXPECT_TRUE(sync_folder("/proc/self").ok());
}

TEST_F(DurableFile, WritesAllOfItInPlaceOfWhatWasThere) {
  ASSERT_TRUE(write_durably(path_, bytes_of("a longer text"), 0640).ok());
  EXPECT_EQ(content_of(path_), "a longer text");
  struct stat facts {};
  ASSERT_EQ(::stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0137, 0u) << "no more than was asked for";
  ASSERT_TRUE(write_durably(path_, bytes_of("short"), 0640).ok());
  EXPECT_EQ(content_of(path_), "short");
  ASSERT_TRUE(write_durably(path_, {}, 0640).ok());
  EXPECT_EQ(content_of(path_), "");
}

TEST_F(DurableFile, AFullFilesystemIsNoSpace) {
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "no /dev/full here";
  EXPECT_EQ(write_durably("/dev/full", bytes_of("x"), 0600).error().code(), ErrorCode::kNoSpace);
}

TEST_F(DurableFile, ReplacesAFileAndLeavesNothingBeside) {
  ASSERT_TRUE(replace_file(path_, bytes_of("old"), 0600).ok());
  ASSERT_TRUE(replace_file(path_, bytes_of("new"), 0600).ok());
  EXPECT_EQ(content_of(path_), "new");
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
}

TEST_F(DurableFile, WhatCannotBeReplacedStaysAndNothingIsLeftBeside) {
  std::filesystem::create_directory(path_);
  const Status replaced = replace_file(path_, bytes_of("new"), 0600);
  ASSERT_FALSE(replaced.ok());
  EXPECT_NE(replaced.error().message().find(path_), std::string::npos);
  EXPECT_TRUE(std::filesystem::is_directory(path_));
  EXPECT_FALSE(std::filesystem::exists(path_ + ".new"));
  EXPECT_EQ(replace_file(folder_ / "no/such", bytes_of("new"), 0600).error().code(),
            ErrorCode::kNotFound);
}

TEST_F(DurableFile, WhatIsStagedIsPutInPlaceLater) {
  ASSERT_TRUE(replace_file(path_, bytes_of("old"), 0600).ok());
  const std::string staged = folder_ / "staged";
  ASSERT_TRUE(write_durably(staged, bytes_of("new"), 0600).ok());
  EXPECT_EQ(content_of(path_), "old");
  ASSERT_TRUE(put_in_place(staged, path_).ok());
  EXPECT_EQ(content_of(path_), "new");
  EXPECT_FALSE(std::filesystem::exists(staged));
  EXPECT_FALSE(put_in_place(staged, path_).ok()) << "it is gone";
}

}  // namespace
}  // namespace blockmig

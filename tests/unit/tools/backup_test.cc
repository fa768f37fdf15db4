// SPDX-License-Identifier: Apache-2.0
// What lies beside a backup, and which copies an incremental may be applied to.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "blockmig/io/run_task.h"
#include "tests/unit/tools/scratch.h"
#include "tools/daemon/backup_file.h"
#include "tools/daemon/backup_target.h"
#include "tools/daemon/uri_target.h"

namespace blockmig {
namespace {

using testing::HasSubstr;

constexpr std::uint64_t kSize = 300001;

class Backup : public testing::Test {
 protected:
  void SetUp() override { copy_ = scratch_.image("copy.img", kSize); }
  BackupRecord complete() {
    BackupRecord record;
    record.disk = "vm1";
    record.size_bytes = kSize;
    record.complete = true;
    record.bitmaps = {{"mon", "1111"}, {"tue", "2222"}};
    record.image = *state_of_backup(copy_);
    return record;
  }
  void save(const BackupRecord& record) {
    const Status saved = save_backup_record(copy_, record);
    ASSERT_TRUE(saved.ok()) << saved.error().message();
  }
  /// Empty where an incremental since `mon` may be applied.
  std::string refusal(ErrorCode code = ErrorCode::kPrecondition, std::uint64_t size = kSize,
                      const std::string& id = "1111") {
    const auto base = check_backup_base(copy_, size, {"mon", id});
    if (base.ok()) return "";
    EXPECT_EQ(base.error().code(), code) << base.error().message();
    return base.error().message();
  }

  Scratch scratch_;
  std::string copy_;
};

TEST_F(Backup, RecordComesBackAsItWas) {
  BackupRecord record = complete();
  record.since = "sun";
  save(record);
  const auto loaded = load_backup_record(copy_);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(*loaded, record);
  EXPECT_FALSE(std::filesystem::exists(backup_record_path(copy_) + ".new"));
  ASSERT_TRUE(remove_backup_record(copy_).ok());
  EXPECT_EQ(load_backup_record(copy_).error().code(), ErrorCode::kNotFound);
  EXPECT_TRUE(remove_backup_record(copy_).ok());
}

TEST_F(Backup, IncrementalFitsTheCopyThatItsBitmapKnows) {
  EXPECT_TRUE(check_restorable(copy_).ok()) << "no copy";
  save(complete());
  EXPECT_EQ(refusal(), "");
  EXPECT_TRUE(check_restorable(copy_).ok());
  EXPECT_THAT(refusal(ErrorCode::kPrecondition, kSize, "3333"), HasSubstr("'mon', 'tue'"));
  EXPECT_THAT(refusal(ErrorCode::kPrecondition, kSize + 1), HasSubstr("300001"));
  std::filesystem::remove(copy_);
  EXPECT_THAT(refusal(ErrorCode::kNotFound), HasSubstr("there is no copy"));
}

TEST_F(Backup, FileWithoutARecordIsNoCopy) {
  EXPECT_THAT(refusal(), HasSubstr("no copy made by 'blockmig backup'"));
}

TEST_F(Backup, CompleteCopyThatWasChangedIsNone) {
  save(complete());
  std::ofstream(copy_, std::ios::in | std::ios::out | std::ios::binary) << "x";
  const timespec later[2] = {{0, UTIME_OMIT}, {1, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, copy_.c_str(), later, 0), 0);
  EXPECT_THAT(refusal(), HasSubstr("was changed since"));
}

TEST_F(Backup, IncompleteCopyIsCompletedInPlaceOnly) {
  BackupRecord record = complete();
  record.complete = false;
  record.inode = *inode_of_backup(copy_);
  record.image.clear();
  save(record);
  EXPECT_EQ(refusal(), "");
  EXPECT_THAT(check_restorable(copy_).error().message(), HasSubstr("incomplete copy"));
  record.inode += 1;
  save(record);
  EXPECT_TRUE(check_restorable(copy_).ok()) << "another file";
  EXPECT_THAT(refusal(), HasSubstr("was changed since"));
  record.bitmaps.clear();
  save(record);
  EXPECT_THAT(refusal(), HasSubstr("never complete"));
}

TEST_F(Backup, IncompleteCopyThatWasChangedSinceItWasLeftIsNotCompleted) {
  BackupRecord record = complete();
  record.complete = false;
  record.inode = *inode_of_backup(copy_);
  save(record);
  EXPECT_EQ(refusal(), "");
  const timespec later[2] = {{0, UTIME_OMIT}, {1, 0}};
  ASSERT_EQ(utimensat(AT_FDCWD, copy_.c_str(), later, 0), 0);
  EXPECT_THAT(refusal(), HasSubstr("was changed since"));
}

TEST_F(Backup, RecordLiesBesideTheFileThatALinkLeadsTo) {
  save(complete());
  const std::string link = scratch_ / "link.img";
  std::filesystem::create_symlink(copy_, link);
  EXPECT_EQ(backup_record_path(link), backup_record_path(copy_));
  BackupRecord record = complete();
  record.complete = false;
  record.inode = *inode_of_backup(link);
  ASSERT_TRUE(save_backup_record(link, record).ok());
  EXPECT_FALSE(check_restorable(copy_).ok()) << "of one file there is one truth";
  std::filesystem::remove(copy_);
  EXPECT_EQ(backup_record_path(link), link + ".blockmig-backup") << "it leads nowhere";
}

TEST_F(Backup, RecordOfANewerProgramOrDamagedIsRefused) {
  const std::string path = backup_record_path(copy_);
  std::ofstream(path) << R"({"format": 2, "disk": "vm1"})";
  EXPECT_THAT(refusal(), HasSubstr("newer program"));
  for (const char* const text :
       {"", "{}", "[]",
        R"({"format": 1, "disk": "d", "size_bytes": 1, "state": "done", "bitmaps": []})",
        R"({"format": 1, "disk": "d", "size_bytes": 1, "state": "complete"})",
        R"({"format": 1, "disk": "d", "size_bytes": 1, "state": "complete", "bitmaps": [{}]})"}) {
    std::ofstream(path, std::ios::trunc) << text;
    EXPECT_THAT(refusal(ErrorCode::kInvalid), HasSubstr(path)) << text;
  }
}

TEST_F(Backup, TargetIsARegularFile) {
  const BackupRecord::Bitmap none;
  EXPECT_TRUE(check_backup_target(*parse_store_uri(copy_), kSize, none).ok());
  for (const char* const target : {"nbd://localhost/x", "/dev/null"}) {
    const Status status = check_backup_target(*parse_store_uri(target), kSize, none);
    ASSERT_FALSE(status.ok()) << target;
    EXPECT_THAT(status.error().message(), HasSubstr("regular file"));
  }
}

TEST_F(Backup, RecordOfTheNextOneIsNotRemovedWithAnAbortedOne) {
  auto loop = make_io_loop({});
  ASSERT_TRUE(loop.ok());
  const DiskSet disks;
  TargetPlan plan;
  plan.disk = "vm1";
  plan.target = *parse_store_uri("file://" + (scratch_ / "new.img"));
  plan.source = *parse_store_uri("file://" + copy_);
  for (const bool next : {false, true}) {
    BackupTarget aborted(**loop, plan, disks, {}, {});
    auto opened = run_task(**loop, aborted.open(kSize));
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    BackupRecord record = *load_backup_record(plan.target.path);
    if (next) {
      ++record.inode;
      ASSERT_TRUE(save_backup_record(plan.target.path, record).ok());
    }
    run_task(**loop, aborted.discard());
    EXPECT_FALSE(std::filesystem::exists(plan.target.path));
    EXPECT_EQ(load_backup_record(plan.target.path).ok(), next);
    EXPECT_TRUE(run_task(**loop, (*opened)->close()).ok());
  }
}

TEST_F(Backup, OneThatIsOverwrittenIsNoneBeforeTheFirstByte) {
  auto loop = make_io_loop({});
  ASSERT_TRUE(loop.ok());
  TargetPlan plan;
  plan.disk = "vm2";
  plan.target = *parse_store_uri("file://" + copy_);
  plan.source = *parse_store_uri("file://" + scratch_.image("vm2.img", kSize));
  BackupRecord record = complete();
  record.complete = false;
  record.inode = *inode_of_backup(copy_);
  record.image.clear();
  save(record);
  ASSERT_EQ(refusal(), "");
  {
    UriTarget refused(**loop, plan);
    ASSERT_FALSE(run_task(**loop, refused.open(kSize + 1)).ok());
    EXPECT_EQ(refusal(), "") << "nothing was written";
  }
  UriTarget target(**loop, plan);
  auto opened = run_task(**loop, target.open(kSize));
  ASSERT_TRUE(opened.ok()) << opened.error().message();
  EXPECT_THAT(refusal(), HasSubstr("no copy made by 'blockmig backup'"));
  EXPECT_TRUE(run_task(**loop, (*opened)->close()).ok());
}

}  // namespace
}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <rocksdb/db.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "tests/unit/journal/journal_folder.h"

namespace blockmig {
namespace {

class RocksJournalTest : public JournalFolder {
 protected:
  /// Puts a key into a closed journal behind its back.
  void plant(const std::string& key, const std::string& value) {
    rocksdb::DB* raw = nullptr;
    rocksdb::Options create;
    create.create_if_missing = true;
    ASSERT_TRUE(rocksdb::DB::Open(create, folder(), &raw).ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    rocksdb::WriteOptions options;
    options.sync = true;
    ASSERT_TRUE(db->Put(options, key, value).ok());
  }
};

TEST_F(RocksJournalTest, KeepsRecordsOverReopening) {
  {
    const auto journal = open();
    EXPECT_TRUE(disks(*journal).empty());
    EXPECT_TRUE(save(*journal, disk("b", 1)).ok());
    EXPECT_TRUE(save(*journal, disk("a", 7)).ok());
    EXPECT_TRUE(save(*journal, disk("b", 2)).ok());
    EXPECT_TRUE(save(*journal, job("j1", 3)).ok());
    EXPECT_EQ(disks(*journal), (std::vector<DiskRecord>{disk("a", 7), disk("b", 2)}));
  }
  for (int round = 0; round < 3; ++round) {
    const auto journal = open();
    EXPECT_EQ(disks(*journal), (std::vector<DiskRecord>{disk("a", 7), disk("b", 2)}));
    EXPECT_EQ(jobs(*journal), (std::vector<JobRecord>{job("j1", 3)}));
    const auto one = run_task(loop_, journal->load_disk("b"));
    ASSERT_TRUE(one.ok());
    EXPECT_EQ(*one, disk("b", 2));
  }
}

TEST_F(RocksJournalTest, KeepsRegionsAndHydrationsOverReopening) {
  const HydrationRecord hydration{"d", 3, "file:///a", 65536, true, "n", "mig-1"};
  {
    const auto journal = open();
    expect_regions_kept(*journal);
    EXPECT_TRUE(run_task(loop_, journal->save_hydration(hydration)).ok());
  }
  const auto journal = open();
  EXPECT_EQ(regions(*journal, "d", "n"),
            (std::vector<RegionContainer>{container(0, 3), container(0x10000, 1)}));
  const std::string name = "d";
  const auto loaded = run_task(loop_, journal->load_hydration(name));
  ASSERT_TRUE(loaded.ok());
  EXPECT_EQ(*loaded, hydration);
}

TEST_F(RocksJournalTest, ALargeChangeIsOneRecordOfTheLog) {
  RegionChange change{"d", "n", {}, {}};
  for (std::uint32_t i = 0; i < 300; ++i) {
    change.put.push_back({i, std::vector<std::byte>(4096, std::byte{0xff})});
  }
  {
    const auto journal = open();
    EXPECT_TRUE(run_task(loop_, journal->change_regions(change)).ok());
  }
  // Cut inside it: all of it did not happen.
  copy_journal("j", "cut");
  const Path log = wal("cut");
  const std::string bytes = read_file(log);
  ASSERT_GT(bytes.size(), 300U * 4096);
  write_file(log, bytes.substr(0, bytes.size() / 2));
  {
    const auto journal = open("cut");
    ASSERT_NE(journal, nullptr);
    EXPECT_TRUE(regions(*journal, "d", "n").empty());
  }
  const auto journal = open();
  EXPECT_EQ(regions(*journal, "d", "n"), change.put);
}

TEST_F(RocksJournalTest, AnOlderSchemaIsRaisedBeforeNewRecords) {
  { const auto journal = open(); }
  plant("schema", encode_schema(1));
  for (int round = 0; round < 2; ++round) {
    const auto journal = open();
    ASSERT_NE(journal, nullptr);
  }
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(rocksdb::DB::OpenForReadOnly({}, folder(), &raw).ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  std::string value;
  ASSERT_TRUE(db->Get({}, "schema", &value).ok());
  EXPECT_EQ(*decode_schema(value), record_format::kSchemaVersion);
}

TEST_F(RocksJournalTest, AnUnknownDiskIsNotAnError) {
  const auto journal = open();
  const auto none = run_task(loop_, journal->load_disk("x"));
  ASSERT_TRUE(none.ok());
  EXPECT_EQ(*none, std::nullopt);
  EXPECT_TRUE(run_task(loop_, journal->remove_disk("x")).ok());
}

TEST_F(RocksJournalTest, RemovedDisksStayRemoved) {
  {
    const auto journal = open();
    EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
    EXPECT_TRUE(save(*journal, job("a", 1)).ok());
    EXPECT_TRUE(run_task(loop_, journal->remove_disk("a")).ok());
    EXPECT_TRUE(disks(*journal).empty());
  }
  const auto journal = open();
  EXPECT_TRUE(disks(*journal).empty());
  EXPECT_EQ(jobs(*journal).size(), 1U) << "a job of the same name is another thing";
}

TEST_F(RocksJournalTest, NamesMayHoldAnyBytes) {
  const std::string name("x/../y\n\0\xff %", 11);
  {
    const auto journal = open();
    EXPECT_TRUE(save(*journal, disk(name, 1)).ok());
  }
  const auto journal = open();
  EXPECT_EQ(disks(*journal), (std::vector<DiskRecord>{disk(name, 1)}));
}

TEST_F(RocksJournalTest, RecordsBeyondTheirLimitsAreRefusedAndChangeNothing) {
  const auto journal = open();
  JobRecord large = job("j", 1);
  large.report_json.assign(2 << 20, 'x');
  EXPECT_EQ(save(*journal, large).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(save(*journal, disk("", 1)).error().code(), ErrorCode::kInvalid);
  EXPECT_EQ(save(*journal, disk(std::string(2000, 'n'), 1)).error().code(), ErrorCode::kInvalid);
  EXPECT_TRUE(jobs(*journal).empty());
  large.report_json.assign(900'000, 'x');
  EXPECT_TRUE(save(*journal, large).ok());
  EXPECT_EQ(jobs(*journal), (std::vector<JobRecord>{large}));
}

TEST_F(RocksJournalTest, CreatesItsFolderForTheOwnerOnly) {
  const auto journal = open("a/b/c");
  ASSERT_NE(journal, nullptr);
  for (const char* made : {"a", "a/b", "a/b/c"}) {
    EXPECT_EQ(std::filesystem::status(root_ / made).permissions(),
              std::filesystem::perms::owner_all);
  }
}

TEST_F(RocksJournalTest, AFileInThePlaceOfTheFolderIsRefused) {
  write_file(root_ / "j", "precious");
  EXPECT_FALSE(try_open().ok());
  EXPECT_EQ(read_file(root_ / "j"), "precious");
}

TEST_F(RocksJournalTest, StaysSmallOnDisk) {
  const auto journal = open();
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_TRUE(save(*journal, disk("a", i)).ok());
  std::uintmax_t blocks_bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder())) {
    struct stat info = {};
    ASSERT_EQ(::stat(entry.path().c_str(), &info), 0);
    blocks_bytes += static_cast<std::uintmax_t>(info.st_blocks) * 512;
  }
  EXPECT_LT(blocks_bytes, 512U * 1024);
}

TEST_F(RocksJournalTest, IsBusyWhileThisProcessHoldsIt_I3) {
  const auto journal = open();
  expect_refused(ErrorCode::kBusy, "in use by process " + std::to_string(::getpid()));
  EXPECT_TRUE(save(*journal, disk("a", 1)).ok()) << "the holder is not disturbed";
}

TEST_F(RocksJournalTest, IsFreeAgainWhenClosed) {
  { const auto journal = open(); }
  EXPECT_NE(open(), nullptr);
}

TEST_F(RocksJournalTest, IsBusyWhileARocksDbToolHoldsIt) {
  { const auto journal = open(); }
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), folder(), &raw).ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  expect_refused(ErrorCode::kBusy, "lock");
}

TEST_F(RocksJournalTest, ANewerSchemaIsRefused) {
  { const auto journal = open(); }
  plant("schema", encode_schema(record_format::kSchemaVersion + 1));
  expect_refused(ErrorCode::kPrecondition, "newer program");
}

TEST_F(RocksJournalTest, ADamagedSchemaIsRefused) {
  { const auto journal = open(); }
  plant("schema", "junk");
  expect_refused(ErrorCode::kProtocol, "schema");
}

TEST_F(RocksJournalTest, ADamagedRecordStopsTheStart_I7) {
  {
    const auto journal = open();
    EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
  }
  std::string value = *encode_disk(disk("a", 1));
  value[20] = static_cast<char>(value[20] ^ 1);
  plant(disk_key("a"), value);
  expect_refused(ErrorCode::kProtocol, "'disk/a' is damaged");
}

TEST_F(RocksJournalTest, ARecordUnderAnothersKeyStopsTheStart) {
  { const auto journal = open(); }
  plant(disk_key("b"), *encode_disk(disk("a", 1)));
  expect_refused(ErrorCode::kProtocol, "'disk/b' is damaged");
}

TEST_F(RocksJournalTest, AnUnknownRecordStopsTheStart) {
  { const auto journal = open(); }
  plant("lease/x", "y");
  expect_refused(ErrorCode::kProtocol, "unknown record 'lease/x'");
}

TEST_F(RocksJournalTest, AnEmptiedJournalIsDamageAndNotANewOne) {
  { const auto journal = open(); }
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), folder(), &raw).ok());
  ASSERT_TRUE(raw->Put({}, "x", "y").ok());
  ASSERT_TRUE(raw->Flush({}).ok());
  for (const char* key : {"x", "schema"}) ASSERT_TRUE(raw->Delete({}, key).ok());
  delete raw;
  expect_refused(ErrorCode::kProtocol, "schema record is missing");
  expect_refused(ErrorCode::kProtocol, "");  // and again
}

TEST_F(RocksJournalTest, SomebodyElsesRocksDbIsRefusedAndLeftAlone) {
  plant("their", "data");
  expect_refused(ErrorCode::kProtocol, "schema record is missing");
  rocksdb::DB* raw = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), folder(), &raw).ok());
  const std::unique_ptr<rocksdb::DB> db(raw);
  std::string value;
  EXPECT_TRUE(db->Get({}, "their", &value).ok());
}

/// Files of this process may not grow while it lives: every write to the log fails.
class NoGrowth final {
 public:
  explicit NoGrowth(rlim_t most_bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit now = before_;
    now.rlim_cur = most_bytes;
    ::setrlimit(RLIMIT_FSIZE, &now);
  }
  ~NoGrowth() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  NoGrowth(const NoGrowth&) = delete;
  NoGrowth& operator=(const NoGrowth&) = delete;

 private:
  rlimit before_ = {};
};

TEST_F(RocksJournalTest, AFailedSaveIsStickyUntilReopened_I11) {
  // From nothing of the record written to all but its end.
  for (std::uint64_t room = 0; room < 200; room += 23) {
    std::filesystem::remove_all(folder());
    Status failed;
    Status retried;
    bool loaded = true;
    {
      const auto journal = open();
      EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
      JobRecord large = job("j", 2);
      large.report_json.assign(1000, 'x');
      {
        const NoGrowth limit(std::filesystem::file_size(wal()) + room);
        failed = save(*journal, large);
      }
      // The limit is gone, RocksDB would write again: what it then says proves nothing.
      retried = save(*journal, disk("a", 3));
      const auto all = run_task(loop_, journal->load_disks());
      loaded = all.ok();
    }
    ASSERT_FALSE(failed.ok());
    ASSERT_FALSE(retried.ok());
    EXPECT_NE(retried.error().message().find("opened again"), std::string::npos);
    EXPECT_FALSE(loaded) << "memory may hold what the disk does not";
    const auto journal = open();
    ASSERT_NE(journal, nullptr);
    EXPECT_EQ(disks(*journal), (std::vector<DiskRecord>{disk("a", 1)}));
    EXPECT_TRUE(jobs(*journal).empty()) << "the record does not fit, so it cannot be there";
    EXPECT_TRUE(save(*journal, disk("a", 4)).ok());
  }
}

TEST_F(RocksJournalTest, OpeningOnAFullDiskFailsCleanly) {
  {
    const auto journal = open();
    EXPECT_TRUE(save(*journal, disk("a", 1)).ok());
  }
  {
    const NoGrowth limit(16);
    EXPECT_FALSE(try_open().ok());
    EXPECT_FALSE(try_open("new").ok());
  }
  const auto journal = open();
  ASSERT_NE(journal, nullptr);
  EXPECT_EQ(disks(*journal), (std::vector<DiskRecord>{disk("a", 1)}));
  EXPECT_NE(open("new"), nullptr);
}

Task<void> save_into(Journal& journal, const DiskRecord& record, int& saved) {
  const Status status = co_await journal.save_disk(record);
  if (status) ++saved;
}

Task<void> save_all(Journal& journal, const std::vector<DiskRecord>& records, int& saved) {
  TaskScope scope;
  for (const DiskRecord& record : records) {
    Task<void> one = save_into(journal, record, saved);
    scope.spawn(std::move(one));
  }
  co_await scope.join();
}

TEST_F(RocksJournalTest, ManySavesAtOnceOnARealLoop) {
  IoLoopOptions options;
  options.kind = LoopKind::kPortable;
  auto loop = make_io_loop(options);
  ASSERT_TRUE(loop.ok());
  std::vector<DiskRecord> records;
  for (int i = 100; i < 164; ++i) records.push_back(disk("d" + std::to_string(i), 1));
  int saved = 0;
  {
    auto journal = open_rocks_journal(**loop, folder());
    ASSERT_TRUE(journal.ok());
    run_task(**loop, save_all(**journal, records, saved));
  }
  EXPECT_EQ(saved, 64);
  const auto journal = open();
  EXPECT_EQ(disks(*journal), records);
}

}  // namespace
}  // namespace blockmig

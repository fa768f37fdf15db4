// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/rocks_store.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <cstdarg>
#include <exception>
#include <mutex>

#include "blockmig/base/planted.h"
#include "blockmig/base/units.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {
namespace {

constexpr std::uint64_t kWriteBufferBytes = 1 << 20;
/// Beside what is reserved for: what others save meanwhile, and what the log adds.
constexpr std::uint64_t kReserveBytes = 64 * 1024;
/// A table of what is buffered, a log, and RocksDB's own records of both.
constexpr std::uint64_t kFlushBytes = 4 * kWriteBufferBytes;

/// Behind the last key that begins with `prefix`, which ends in a '/'.
std::string end_of(std::string prefix) {
  ++prefix.back();
  return prefix;
}

Error translate(const rocksdb::Status& status, const std::string& what) {
  ErrorCode code = ErrorCode::kIo;
  if (status.IsCorruption()) code = ErrorCode::kProtocol;
  if (status.IsNoSpace()) code = ErrorCode::kNoSpace;
  const std::string text = status.ToString();
  // RocksDB has no code of its own for its LOCK file: somebody else's tool works in the folder.
  if (status.IsIOError() && (text.find("While lock file") != std::string::npos ||
                             text.find("lock hold by current process") != std::string::npos)) {
    code = ErrorCode::kBusy;
  }
  return Error(code, what + ": " + text);
}

/// RocksDB's own log file is not kept: statuses say what went wrong, and in Debian's build, which
/// has assertions, a line that does not fit on a full disk aborts the process at the next one.
class NoLog final : public rocksdb::Logger {
 public:
  using rocksdb::Logger::Logv;
  void Logv(const char* /*format*/, va_list /*arguments*/) override {}
};

/// A journal is a few KiB: small buffers, no preallocated files, a quiet log, one thread of each
/// kind.
rocksdb::Options small_options() {
  rocksdb::Options options;
  options.create_if_missing = true;
  options.paranoid_checks = true;
  // Torn tail: did not happen. Damage elsewhere was refused by check_rocksdb_files() before (trap
  // 19).
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.track_and_verify_wals_in_manifest = true;
  options.recycle_log_file_num = 0;
  options.max_bgerror_resume_count = 0;  // a failure is sticky, never retried behind our back (I11)
  options.allow_fallocate = false;
  options.avoid_unnecessary_blocking_io = true;
  options.avoid_flush_during_shutdown = true;
  options.write_buffer_size = kWriteBufferBytes;
  options.max_write_buffer_number = 2;
  options.max_total_wal_size = 4 << 20;
  options.max_background_jobs = 2;
  options.max_open_files = 64;
  options.max_file_opening_threads = 1;
  options.max_manifest_file_size = 1 << 20;
  options.manifest_preallocation_size = 4096;
  options.compression = rocksdb::kNoCompression;
  options.info_log = std::make_shared<NoLog>();
  options.stats_dump_period_sec = 0;
  options.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(256 << 10, 0);
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  return options;
}

class RocksDbStore final : public RocksStore {
 public:
  RocksDbStore(std::string directory, std::unique_ptr<rocksdb::DB> db)
      : directory_(std::move(directory)), db_(std::move(db)) {}
  ~RocksDbStore() override { static_cast<void>(db_->Close()); }

  Status health() const override {
    const std::lock_guard<std::mutex> only(failure_mutex_);
    return failure_;
  }

  Result<std::optional<std::string>> get(const std::string& key) override {
    return guarded<std::optional<std::string>>([&]() -> Result<std::optional<std::string>> {
      std::string value;
      const rocksdb::Status got = db_->Get(read_options(), key, &value);
      if (got.IsNotFound()) return std::optional<std::string>();
      if (!got.ok()) return translate(got, what("reading " + key));
      return std::optional<std::string>(std::move(value));
    });
  }

  Result<std::vector<Record>> scan(const std::string& prefix) override {
    return scan_some(prefix, prefix, SIZE_MAX);
  }

  Result<std::vector<Record>> scan_some(const std::string& prefix, const std::string& first,
                                        std::size_t limit) override {
    return guarded<std::vector<Record>>([&]() -> Result<std::vector<Record>> {
      std::vector<Record> records;
      const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(read_options()));
      for (at->Seek(first); records.size() < limit && at->Valid() && at->key().starts_with(prefix);
           at->Next()) {
        records.emplace_back(at->key().ToString(), at->value().ToString());
      }
      // The end of an iteration and its failure look the same until asked.
      if (!at->status().ok()) return translate(at->status(), what("reading " + prefix));
      return records;
    });
  }

  Result<std::vector<Record>> scan_all_but(const std::string& prefix) override {
    return guarded<std::vector<Record>>([&]() -> Result<std::vector<Record>> {
      std::vector<Record> records;
      const std::unique_ptr<rocksdb::Iterator> at(db_->NewIterator(read_options()));
      at->SeekToFirst();
      while (at->Valid()) {
        if (at->key().starts_with(prefix)) {
          at->Seek(end_of(prefix));
          continue;
        }
        records.emplace_back(at->key().ToString(), at->value().ToString());
        at->Next();
      }
      if (!at->status().ok()) return translate(at->status(), what("reading"));
      return records;
    });
  }

  Status put(const std::string& key, const std::string& value) override {
    return write("saving " + key, [&] { return db_->Put(synced(), key, value); });
  }
  Status apply(const std::vector<Record>& puts, const std::vector<std::string>& removals,
               const std::vector<std::string>& removed_prefixes) override {
    return write("saving " + std::to_string(puts.size() + removals.size()) + " records", [&] {
      rocksdb::WriteBatch batch;
      const rocksdb::Status built = build(batch, puts, removals, removed_prefixes);
      return built.ok() ? db_->Write(synced(), &batch) : built;
    });
  }
  Status reserve(const std::vector<Record>& puts, const std::vector<std::string>& removals,
                 const std::vector<std::string>& removed_prefixes) override {
    return guarded<void>([&]() -> Status {
      rocksdb::WriteBatch batch;
      const rocksdb::Status built = build(batch, puts, removals, removed_prefixes);
      if (!built.ok()) return translate(built, what("reading what is to be removed"));
      // The next write must not be the one that begins another log.
      std::uint64_t buffered = 0;
      db_->GetIntProperty(rocksdb::DB::Properties::kCurSizeActiveMemTable, &buffered);
      if (buffered > kWriteBufferBytes / 2) {
        // A table that finds no room would end the journal for all that it is written for.
        if (free_bytes() < kFlushBytes) {
          return Error(ErrorCode::kNoSpace, what("taking room for what is to be saved") +
                                                ": less than " + format_bytes(kFlushBytes) +
                                                " are free");
        }
        const rocksdb::Status flushed = db_->Flush(rocksdb::FlushOptions());
        if (!flushed.ok()) return fail(translate(flushed, what("flushing")));
      }
      std::unique_ptr<rocksdb::LogFile> log;
      const rocksdb::Status found = db_->GetCurrentWalFile(&log);
      if (!found.ok()) return translate(found, what("looking for its log"));
      return extend(directory_ + log->PathName(), 2 * batch.GetDataSize() + kReserveBytes);
    });
  }
  std::uint64_t free_bytes() const override {
    struct statvfs room {};
    if (::statvfs(directory_.c_str(), &room) != 0) return UINT64_MAX;
    return room.f_bavail * room.f_frsize;
  }
  Status flush() override {
    return write("flushing", [&] { return db_->Flush(rocksdb::FlushOptions()); });
  }

 private:
  rocksdb::Status build(rocksdb::WriteBatch& batch, const std::vector<Record>& puts,
                        const std::vector<std::string>& removals,
                        const std::vector<std::string>& removed_prefixes) {
    rocksdb::Status built;
    // As one range: of a large disk's digests there are a million, and a decision waits for this.
    for (const std::string& prefix : removed_prefixes) {
      if (built.ok()) built = batch.DeleteRange(prefix, end_of(prefix));
    }
    for (const std::string& key : removals) {
      if (built.ok()) built = batch.Delete(key);
    }
    for (const Record& record : puts) {
      if (built.ok()) built = batch.Put(record.first, record.second);
    }
    return built;
  }
  /// Room behind the end of the log, which stays where it is.
  Status extend(const std::string& path, std::uint64_t bytes) const {
    const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    struct stat facts {};
    if (!file || ::fstat(file.get(), &facts) != 0) {
      return Error::from_errno(errno, what("looking at " + path));
    }
    if (::fallocate(file.get(), FALLOC_FL_KEEP_SIZE, facts.st_size, static_cast<off_t>(bytes)) ==
            0 ||
        errno == EOPNOTSUPP || errno == ENOSYS) {
      return {};
    }
    return Error::from_errno(errno, what("taking room for what is to be saved"));
  }
  static rocksdb::WriteOptions synced() {
    rocksdb::WriteOptions options;
    options.sync = !planted(PlantedBug::kJournalNotSynced);  // the default is false (trap 19)
    return options;
  }
  static rocksdb::ReadOptions read_options() {
    rocksdb::ReadOptions options;
    options.verify_checksums = true;
    return options;
  }
  std::string what(const std::string& action) const {
    return "journal " + directory_ + ": " + action;
  }

  template <typename Function>
  Status write(const std::string& action, Function function) {
    return guarded<void>([&]() -> Status {
      const rocksdb::Status done = function();
      if (done.ok()) return {};
      return fail(translate(done, what(action)));
    });
  }

  /// One call at a time, none after a failure, and no exception gets out.
  template <typename T, typename Function>
  Result<T> guarded(Function function) {
    const std::lock_guard<std::mutex> only(mutex_);
    if (const Status before = health(); !before) {
      return Error(ErrorCode::kPrecondition,
                   "nothing is recorded until the journal is opened again by a restart, because a "
                   "write failed before: " +
                       before.error().message());
    }
    try {
      return function();
    } catch (const std::exception& thrown) {
      return fail(Error(ErrorCode::kIo, what(thrown.what())));
    }
  }

  Error fail(Error error) {
    const std::lock_guard<std::mutex> only(failure_mutex_);
    failure_ = error;
    return error;
  }

  const std::string directory_;
  std::mutex mutex_;
  mutable std::mutex failure_mutex_;  ///< never held over I/O
  Status failure_;
  std::unique_ptr<rocksdb::DB> db_;
};

}  // namespace

Result<std::unique_ptr<RocksStore>> open_rocks_store(const std::string& directory) {
  try {
    rocksdb::DB* raw = nullptr;
    const rocksdb::Status opened = rocksdb::DB::Open(small_options(), directory, &raw);
    std::unique_ptr<rocksdb::DB> db(raw);
    if (!opened.ok()) return translate(opened, "journal " + directory + ": opening");
    return std::unique_ptr<RocksStore>(std::make_unique<RocksDbStore>(directory, std::move(db)));
  } catch (const std::exception& thrown) {
    return Error(ErrorCode::kIo, "journal " + directory + ": " + thrown.what());
  }
}

}  // namespace blockmig

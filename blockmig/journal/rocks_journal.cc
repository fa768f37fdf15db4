// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "blockmig/base/check.h"
#include "blockmig/base/units.h"
#include "blockmig/io/durable_file.h"
#include "blockmig/io/offload.h"
#include "blockmig/io/visit.h"
#include "blockmig/journal/directory_lock.h"
#include "blockmig/journal/journal.h"
#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/rocks_store.h"
#include "blockmig/journal/wal_check.h"

namespace blockmig {
namespace {

namespace format = record_format;

/// Digests are the only large thing here, and the only one that a job can do without: with less
/// than this free, a journal that is full would cost far more.
constexpr std::uint64_t kRoomForDigests = 256 * kMiB;

/// Of the journal's own files beside RocksDB's.
Status in_journal(const Status& status) {
  return status.ok() ? status : Status(status.error().with_context("journal"));
}

/// While it is there, the described region sets hold what was recorded. It is removed, which needs
/// no room and no RocksDB, when writes go on that cannot be recorded.
std::string trust_path(const std::string& directory) { return directory + "/trusted"; }

Status remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return Error::from_errno(errno, "journal: cannot remove " + path);
  }
  return in_journal(sync_folder_of(path));
}

/// An empty file, on stable storage.
Status create_marker(const std::string& path) {
  const Status written = write_durably(path, {}, 0600);
  return in_journal(written.ok() ? sync_folder_of(path) : written);
}

/// Every call runs off the loop; the store makes them serial.
class RocksJournal final : public Journal {
 public:
  RocksJournal(BlockingCalls& calls, std::string directory, std::unique_ptr<DirectoryLock> lock,
               std::unique_ptr<RocksStore> store)
      : calls_(calls),
        directory_(std::move(directory)),
        lock_(std::move(lock)),
        store_(std::move(store)) {}
  /// Its tasks must have finished: they run on other threads.
  ~RocksJournal() override { BM_CHECK(running_ == 0); }

  Status health() const override { return store_->health(); }
  int running() const override { return running_; }

  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override {
    const Visit running(running_);
    const std::string key = disk_key(disk);
    offload work(calls_, [this, &key] { return store_->get(key); });
    const auto value = co_await work;
    if (!value) co_return value.error();
    if (!value->has_value()) co_return std::optional<DiskRecord>();
    const auto record = decode_disk(key, **value);
    if (!record) co_return record.error();
    co_return std::optional<DiskRecord>(*record);
  }

  Task<Result<std::vector<DiskRecord>>> load_disks() override {
    const Visit running(running_);
    const std::string prefix = disk_key("");
    offload work(calls_, [this, &prefix] { return store_->scan(prefix); });
    const auto records = co_await work;
    if (!records) co_return records.error();
    co_return decode_all<DiskRecord>(*records, &decode_disk);
  }

  Task<Result<std::vector<JobRecord>>> load_jobs() override {
    const Visit running(running_);
    const std::string prefix = job_key("");
    offload work(calls_, [this, &prefix] { return store_->scan(prefix); });
    const auto records = co_await work;
    if (!records) co_return records.error();
    co_return decode_all<JobRecord>(*records, &decode_job);
  }

  Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                          const std::string& name) override {
    const Visit running(running_);
    const std::string prefix = regions_prefix(disk, name);
    offload work(calls_, [this, &prefix] { return store_->scan(prefix); });
    const auto records = co_await work;
    if (!records) co_return records.error();
    co_return decode_all<RegionContainer>(*records, &decode_region);
  }

  Task<Result<std::vector<DigestContainer>>> load_digests(const RegionSetId& set,
                                                          std::uint32_t from) override {
    const Visit running(running_);
    const std::string prefix = digests_prefix(set);
    const std::string first = digest_key(set, from);
    offload work(calls_, [this, &prefix, &first] {
      return store_->scan_some(prefix, first, kMaxContainersPerChange);
    });
    const auto records = co_await work;
    if (!records) co_return records.error();
    co_return decode_all<DigestContainer>(*records, &decode_digests);
  }

  Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) override {
    const Visit running(running_);
    const std::string key = hydration_key(disk);
    offload work(calls_, [this, &key] { return store_->get(key); });
    const auto value = co_await work;
    if (!value) co_return value.error();
    if (!value->has_value()) co_return std::optional<HydrationRecord>();
    const auto record = decode_hydration(key, **value);
    if (!record) co_return record.error();
    co_return std::optional<HydrationRecord>(*record);
  }

  Task<Status> commit(const JournalBatch& batch) override {
    const Visit running(running_);
    // Encoded there too: of a large disk it may be many MiB.
    offload work(calls_, [this, &batch]() -> Status {
      Result<EncodedBatch> encoded = encode_batch(batch);
      if (!encoded) return encoded.error();
      if (encoded->digests > 0 && store_->free_bytes() < kRoomForDigests) {
        leave_out_digests(*encoded);
      }
      return store_->apply(encoded->puts, encoded->removed_keys, encoded->removed_prefixes);
    });
    const Status saved = co_await work;
    co_return saved;
  }

  Task<Status> reserve(const JournalBatch& batch) override {
    const Visit running(running_);
    const Result<EncodedBatch> encoded = encode_batch(batch);
    if (!encoded) co_return encoded.error();
    offload work(calls_, [this, &encoded] {
      return store_->reserve(encoded->puts, encoded->removed_keys, encoded->removed_prefixes);
    });
    const Status reserved = co_await work;
    co_return reserved;
  }

  Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) override {
    const Visit running(running_);
    const std::string prefix = set_prefix(disk);
    offload work(calls_, [this, &prefix] { return store_->scan(prefix); });
    const auto records = co_await work;
    if (!records) co_return records.error();
    co_return decode_all<RegionSetRecord>(*records, &decode_set);
  }

  Task<Status> distrust_sets() override {
    const Visit running(running_);
    offload work(calls_, [this] { return remove_file(trust_path(directory_)); });
    const Status removed = co_await work;
    co_return removed;
  }

  Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) override {
    const Visit running(running_);
    const std::string prefix = note_key(topic, "");
    offload work(calls_, [this, &prefix] { return store_->scan(prefix); });
    const auto records = co_await work;
    if (!records) co_return records.error();
    co_return decode_all<NoteRecord>(*records, &decode_note);
  }

  Task<Result<std::optional<NoteRecord>>> load_note(const std::string& topic,
                                                    const std::string& name) override {
    const Visit running(running_);
    const std::string key = note_key(topic, name);
    offload work(calls_, [this, &key] { return store_->get(key); });
    const auto value = co_await work;
    if (!value) co_return value.error();
    if (!value->has_value()) co_return std::optional<NoteRecord>();
    const auto record = decode_note(key, **value);
    if (!record) co_return record.error();
    co_return std::optional<NoteRecord>(*record);
  }

 private:
  template <typename Record>
  static Result<std::vector<Record>> decode_all(const std::vector<RocksStore::Record>& records,
                                                Result<Record> (*decode)(std::string_view,
                                                                         std::string_view)) {
    std::vector<Record> all;
    for (const auto& [key, value] : records) {
      auto record = decode(key, value);
      if (!record) return record.error();
      all.push_back(*std::move(record));
    }
    return all;
  }

  BlockingCalls& calls_;
  const std::string directory_;
  int running_ = 0;
  std::unique_ptr<DirectoryLock> lock_;  ///< released after the store is closed
  std::unique_ptr<RocksStore> store_;
};

/// mkdir -p, each new entry on stable storage: a journal that vanishes with its folder kept
/// nothing.
Status create_folders(const std::filesystem::path& folder) {
  std::error_code failed;
  if (folder.empty() || std::filesystem::is_directory(folder, failed)) return {};
  const std::filesystem::path parent = folder.parent_path();
  if (const Status above = create_folders(parent); !above) return above;
  std::filesystem::create_directory(folder, failed);
  if (failed) return Error::from_errno(failed.value(), "journal: cannot create " + folder.string());
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, failed);
  if (failed)
    return Error::from_errno(failed.value(), "journal: cannot protect " + folder.string());
  return in_journal(sync_folder_of(folder.string()));
}

/// Beside RocksDB's files, from the first successful start on. With it, a RocksDB without records
/// is damage; without it, a crash of the first start.
std::string marker_path(const std::string& directory) { return directory + "/initialised"; }

/// Forgets the described sets, if they are not to be trusted.
Status check_trust(RocksStore& store, const std::string& directory) {
  std::error_code failed;
  if (std::filesystem::exists(trust_path(directory), failed)) return {};
  if (failed) return Error::from_errno(failed.value(), "journal: cannot look into " + directory);
  const auto sets = store.scan(set_prefix(""));
  if (!sets) return sets.error();
  std::vector<RegionSetRecord> void_sets;
  for (const auto& [key, value] : *sets) {
    const auto set = decode_set(key, value);
    if (!set) return set.error();
    void_sets.push_back(*set);
  }
  if (!void_sets.empty()) {
    const Result<EncodedBatch> batch = encode_batch(distrust(void_sets));
    if (!batch) return batch.error();
    const Status removed = store.apply(batch->puts, batch->removed_keys, batch->removed_prefixes);
    if (!removed) return removed;
  }
  return create_marker(trust_path(directory));
}

/// Writes the schema of a new journal. In a table, so that a journal without its log is recognised
/// as such.
Status initialise(RocksStore& store) {
  const Status saved =
      store.put(std::string(format::kSchemaKey), encode_schema(format::kSchemaVersion));
  if (!saved) return saved;
  return store.flush();
}

/// Every record is read once at the start: damage is found before anything rests on it. Nothing
/// rests on digests, and of a large disk they are many: they are judged when a job asks for them.
Status check_records(RocksStore& store, bool initialised) {
  const auto records = store.scan_all_but(std::string(format::kDigestPrefix));
  if (!records) return records.error();
  if (records->empty() && !initialised) return initialise(store);
  const auto schema_value = store.get(std::string(format::kSchemaKey));
  if (!schema_value) return schema_value.error();
  if (!schema_value->has_value()) {
    return Error(ErrorCode::kProtocol,
                 "the schema record is missing; this is no journal, or damaged");
  }
  const auto schema = decode_schema(**schema_value);
  if (!schema) return schema.error();
  if (*schema > format::kSchemaVersion) {
    return Error(ErrorCode::kPrecondition, "written by a newer program (schema " +
                                               std::to_string(*schema) + ", this one knows " +
                                               std::to_string(format::kSchemaVersion) + ")");
  }
  for (const auto& [key, value] : *records) {
    if (key == format::kSchemaKey) continue;
    if (const Status record = check_record(key, value); !record) return record;
  }
  if (*schema == format::kSchemaVersion) return {};
  // From here on there may be records that an older program does not know.
  return store.put(std::string(format::kSchemaKey), encode_schema(format::kSchemaVersion));
}

}  // namespace

Result<std::unique_ptr<Journal>> open_rocks_journal(BlockingCalls& calls,
                                                    const std::string& directory) {
  if (const Status created = create_folders(directory); !created) return created.error();
  auto lock = DirectoryLock::take(directory);
  if (!lock) return lock.error();
  std::error_code failed;
  const bool initialised = std::filesystem::exists(marker_path(directory), failed);
  if (failed) return Error::from_errno(failed.value(), "journal: cannot look into " + directory);
  if (const Status files = check_rocksdb_files(directory, initialised); !files)
    return files.error();
  auto store = open_rocks_store(directory);
  if (!store) return store.error();
  if (const Status records = check_records(**store, initialised); !records) {
    return records.error().with_context("journal " + directory);
  }
  if (const Status trusted = check_trust(**store, directory); !trusted) return trusted.error();
  if (!initialised) {
    const Status marked = create_marker(marker_path(directory));
    if (!marked) return marked.error();
  }
  return std::unique_ptr<Journal>(
      std::make_unique<RocksJournal>(calls, directory, *std::move(lock), *std::move(store)));
}

}  // namespace blockmig

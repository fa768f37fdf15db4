// SPDX-License-Identifier: Apache-2.0
#include <map>

#include "blockmig/io/offload.h"
#include "blockmig/journal/journal.h"
#include "blockmig/journal/record_codec.h"

namespace blockmig {
namespace {

/// The encoded records, by key, as RocksJournal keeps them: so it refuses what that one refuses.
class MemoryJournal final : public Journal {
 public:
  explicit MemoryJournal(EventLoop& loop) : loop_(loop) {}

  Status health() const override { return {}; }

  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override {
    const std::string key = disk_key(disk);
    offload pause(loop_, [] {});
    co_await pause;
    const auto found = records_.find(key);
    if (found == records_.end()) co_return std::optional<DiskRecord>();
    const auto record = decode_disk(found->first, found->second);
    if (!record) co_return record.error();
    co_return std::optional<DiskRecord>(*record);
  }

  Task<Result<std::vector<DiskRecord>>> load_disks() override {
    offload pause(loop_, [] {});
    co_await pause;
    co_return load_all<DiskRecord>(disk_key(""), &decode_disk);
  }

  Task<Result<std::vector<JobRecord>>> load_jobs() override {
    offload pause(loop_, [] {});
    co_await pause;
    co_return load_all<JobRecord>(job_key(""), &decode_job);
  }

  Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                          const std::string& name) override {
    const std::string prefix = regions_prefix(disk, name);
    offload pause(loop_, [] {});
    co_await pause;
    co_return load_all<RegionContainer>(prefix, &decode_region);
  }

  Task<Result<std::vector<DigestContainer>>> load_digests(const RegionSetId& set,
                                                          std::uint32_t from) override {
    const std::string prefix = digests_prefix(set);
    const std::string first = digest_key(set, from);
    offload pause(loop_, [] {});
    co_await pause;
    co_return load_some<DigestContainer>(prefix, first, kMaxContainersPerChange, &decode_digests);
  }

  Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) override {
    const std::string key = hydration_key(disk);
    offload pause(loop_, [] {});
    co_await pause;
    const auto found = records_.find(key);
    if (found == records_.end()) co_return std::optional<HydrationRecord>();
    const auto record = decode_hydration(found->first, found->second);
    if (!record) co_return record.error();
    co_return std::optional<HydrationRecord>(*record);
  }

  Task<Status> commit(const JournalBatch& batch) override {
    const Result<EncodedBatch> encoded = encode_batch(batch);
    if (!encoded) co_return encoded.error();
    offload before(loop_, [] {});
    co_await before;
    apply_batch(*encoded, records_);
    offload after(loop_, [] {});
    co_await after;
    co_return Status();
  }

  Task<Status> reserve(const JournalBatch& /*batch*/) override {
    offload pause(loop_, [] {});
    co_await pause;
    co_return Status();
  }

  Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) override {
    const std::string prefix = set_prefix(disk);
    offload pause(loop_, [] {});
    co_await pause;
    co_return load_all<RegionSetRecord>(prefix, &decode_set);
  }

  Task<Status> distrust_sets() override {
    offload pause(loop_, [] {});
    co_await pause;
    blockmig::distrust_sets(records_);
    co_return Status();
  }

  Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) override {
    const std::string prefix = note_key(topic, "");
    offload pause(loop_, [] {});
    co_await pause;
    co_return load_all<NoteRecord>(prefix, &decode_note);
  }

  Task<Result<std::optional<NoteRecord>>> load_note(const std::string& topic,
                                                    const std::string& name) override {
    const std::string key = note_key(topic, name);
    offload pause(loop_, [] {});
    co_await pause;
    const auto found = records_.find(key);
    if (found == records_.end()) co_return std::optional<NoteRecord>();
    const auto record = decode_note(key, found->second);
    if (!record) co_return record.error();
    co_return std::optional<NoteRecord>(*record);
  }

 private:
  /// A crash may fall before the record is there, and after it is there but before anybody was
  /// told.
  template <typename Record>
  Result<std::vector<Record>> load_all(const std::string& prefix,
                                       Result<Record> (*decode)(std::string_view,
                                                                std::string_view)) const {
    return load_some<Record>(prefix, prefix, SIZE_MAX, decode);
  }
  /// Those at or after `first`.
  template <typename Record>
  Result<std::vector<Record>> load_some(const std::string& prefix, const std::string& first,
                                        std::size_t limit,
                                        Result<Record> (*decode)(std::string_view,
                                                                 std::string_view)) const {
    std::vector<Record> all;
    for (auto at = records_.lower_bound(first);
         all.size() < limit && at != records_.end() && at->first.starts_with(prefix); ++at) {
      auto record = decode(at->first, at->second);
      if (!record) return record.error();
      all.push_back(*std::move(record));
    }
    return all;
  }

  EventLoop& loop_;
  std::map<std::string, std::string> records_;
};

}  // namespace

std::unique_ptr<Journal> make_memory_journal(EventLoop& loop) {
  return std::make_unique<MemoryJournal>(loop);
}

}  // namespace blockmig

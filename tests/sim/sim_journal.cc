// SPDX-License-Identifier: Apache-2.0
#include "sim_journal.h"

#include <utility>

#include "blockmig/base/check.h"

namespace blockmig::sim {
namespace {

template <typename Record>
Result<std::vector<Record>> load_all(const JournalRecords& records, const std::string& prefix,
                                     Result<Record> (*decode)(std::string_view, std::string_view)) {
  std::vector<Record> all;
  for (auto at = records.lower_bound(prefix);
       at != records.end() && at->first.compare(0, prefix.size(), prefix) == 0; ++at) {
    auto record = decode(at->first, at->second);
    if (!record) return record.error();
    all.push_back(*std::move(record));
  }
  return all;
}

}  // namespace

Status SimJournal::health() const {
  if (!failed_) return {};
  return Error(ErrorCode::kPrecondition, "the journal failed before: nothing was attempted");
}

Task<Status> SimJournal::take_time() {
  const Duration wait = std::chrono::microseconds(random_.between(10, 5000));
  co_await sleep_for(loop_, wait);
  co_return health();
}

Task<Result<std::optional<DiskRecord>>> SimJournal::load_disk(const std::string& disk) {
  const std::string key = disk_key(disk);
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  const auto place = records_.find(key);
  if (place == records_.end()) co_return std::optional<DiskRecord>();
  const auto record = decode_disk(place->first, place->second);
  if (!record.ok()) co_return record.error();
  co_return std::optional<DiskRecord>(*record);
}

Task<Result<std::vector<DiskRecord>>> SimJournal::load_disks() {
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  co_return load_all<DiskRecord>(records_, disk_key(""), &decode_disk);
}

Task<Result<std::vector<JobRecord>>> SimJournal::load_jobs() {
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  co_return load_all<JobRecord>(records_, job_key(""), &decode_job);
}

Task<Status> SimJournal::commit(const JournalBatch& batch) {
  Result<EncodedBatch> encoded = encode_batch(batch);
  if (!encoded.ok()) co_return encoded.error();
  auto moved = *std::move(encoded);
  const Status saved = co_await apply(std::move(moved));
  co_return saved;
}

Task<Status> SimJournal::reserve(const JournalBatch& /*batch*/) {
  const Status turn = co_await take_time();
  co_return turn;
}

Task<Status> SimJournal::apply(EncodedBatch batch) {
  if (failed_) {
    const Status refused = co_await take_time();
    co_return refused;
  }
  if (!alive) co_return Error(ErrorCode::kIo, "the daemon has crashed");
  const bool last = std::exchange(failing_, false);
  failed_ = last;
  const bool fails = last || random_.below(1'000'000) < save_error_ppm;
  const bool happens = !fails || random_.chance(1, 2);
  for (const auto& [key, value] : batch.puts) {
    const auto record = decode_disk(key, value);
    if (!record.ok()) continue;
    if (happens && on_decision) on_decision(*record);
    if (last && on_unknown) on_unknown();
  }
  const Status turn = co_await take_time();
  static_cast<void>(turn);  // it was admitted before
  if (happens && (alive || random_.chance(1, 2))) {
    apply_batch(batch, records_);
    on_applied();
  }
  if (fails || !alive) co_return Error(ErrorCode::kIo, "the journal's device failed");
  co_return Status();
}

Task<Result<std::vector<RegionContainer>>> SimJournal::load_regions(const std::string& disk,
                                                                    const std::string& name) {
  const std::string prefix = regions_prefix(disk, name);
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  co_return load_all<RegionContainer>(records_, prefix, &decode_region);
}

Task<Result<std::vector<DigestContainer>>> SimJournal::load_digests(const RegionSetId& set,
                                                                    std::uint32_t from) {
  const std::string prefix = digests_prefix(set);
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  auto found = load_all<DigestContainer>(records_, prefix, &decode_digests);
  if (found.ok()) std::erase_if(*found, [from](const auto& it) { return it.index < from; });
  co_return found;
}

Task<Result<std::optional<HydrationRecord>>> SimJournal::load_hydration(const std::string& disk) {
  const std::string key = hydration_key(disk);
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  const auto place = records_.find(key);
  if (place == records_.end()) co_return std::optional<HydrationRecord>();
  const auto record = decode_hydration(place->first, place->second);
  if (!record.ok()) co_return record.error();
  co_return std::optional<HydrationRecord>(*record);
}

Task<Result<std::vector<RegionSetRecord>>> SimJournal::load_sets(const std::string& disk) {
  const std::string prefix = set_prefix(disk);
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  co_return load_all<RegionSetRecord>(records_, prefix, &decode_set);
}

Task<Status> SimJournal::distrust_sets() {
  const Status turn = co_await take_time();
  static_cast<void>(turn);  // it needs nothing that a failed journal lacks
  if (alive) blockmig::distrust_sets(records_);
  co_return Status();
}

Task<Result<std::vector<NoteRecord>>> SimJournal::load_notes(const std::string& topic) {
  const std::string prefix = note_key(topic, "");
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  co_return load_all<NoteRecord>(records_, prefix, &decode_note);
}

Task<Result<std::optional<NoteRecord>>> SimJournal::load_note(const std::string& topic,
                                                              const std::string& name) {
  const std::string key = note_key(topic, name);
  const Status turn = co_await take_time();
  if (!turn.ok()) co_return turn.error();
  const auto found = records_.find(key);
  if (found == records_.end()) co_return std::optional<NoteRecord>();
  const auto record = decode_note(key, found->second);
  if (!record) co_return record.error();
  co_return std::optional<NoteRecord>(*record);
}

std::vector<RegionContainer> SimJournal::regions(const std::string& disk,
                                                 const std::string& name) const {
  auto found = load_all<RegionContainer>(records_, regions_prefix(disk, name), &decode_region);
  BM_CHECK(found.ok());
  return *std::move(found);
}

HydrationRecord SimJournal::hydration(const std::string& disk) const {
  const std::string key = hydration_key(disk);
  const auto found = decode_hydration(key, records_.at(key));
  BM_CHECK(found.ok());
  return *found;
}

DiskRecord SimJournal::disk_record(const std::string& disk) const {
  const std::string key = disk_key(disk);
  const auto found = decode_disk(key, records_.at(key));
  BM_CHECK(found.ok());
  return *found;
}

void SimJournal::preset(const DiskRecord& disk, const HydrationRecord& hydration,
                        const std::vector<RegionContainer>& containers) {
  const auto put = [this](const std::string& key, const Result<std::string>& value) {
    BM_CHECK(value.ok());
    records_[key] = *value;
  };
  put(disk_key(disk.disk), encode_disk(disk));
  put(hydration_key(hydration.disk), encode_hydration(hydration));
  for (const RegionContainer& container : containers) {
    put(region_key(disk.disk, hydration.regions, container.index),
        encode_region(disk.disk, hydration.regions, container));
  }
}

}  // namespace blockmig::sim

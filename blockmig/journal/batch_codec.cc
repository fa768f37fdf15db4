// SPDX-License-Identifier: Apache-2.0
// Descriptions of region sets, notes, and batches: record_codec.h.
#include <utility>

#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/record_frame.h"

namespace blockmig {
namespace {

namespace format = record_format;
using format::Kind;
using record_frame::checked;
using record_frame::damaged;
using record_frame::open_frame;
using record_frame::Reader;
using record_frame::Writer;

/// Puts collect, and the first error of an encoding is kept.
class Puts final {
 public:
  explicit Puts(EncodedBatch& batch) : batch_(batch) {}
  void add(std::string key, Result<std::string> value) {
    if (value) {
      batch_.puts.emplace_back(std::move(key), *std::move(value));
    } else if (failed_) {
      failed_ = value.error();
    }
  }
  template <typename Change>
  void add(const Change& change) {
    Result<EncodedChange> encoded = encode_change(change);
    if (!encoded) {
      if (failed_) failed_ = encoded.error();
      return;
    }
    for (auto& put : encoded->put) batch_.puts.push_back(std::move(put));
    for (std::string& key : encoded->remove) batch_.removed_keys.push_back(std::move(key));
  }
  const Status& failed() const { return failed_; }

 private:
  EncodedBatch& batch_;
  Status failed_;
};

void encode_removals(const JournalBatch& batch, EncodedBatch& encoded) {
  for (const std::string& disk : batch.removed_disks) {
    encoded.removed_keys.push_back(disk_key(disk));
  }
  for (const std::string& job : batch.removed_jobs) encoded.removed_keys.push_back(job_key(job));
  for (const std::string& disk : batch.removed_hydrations) {
    encoded.removed_keys.push_back(hydration_key(disk));
  }
  for (const NoteRecord& note : batch.removed_notes) {
    encoded.removed_keys.push_back(note_key(note.topic, note.name));
  }
  for (const RegionSetId& set : batch.removed_sets) {
    encoded.removed_keys.push_back(set_key(set));
    encoded.removed_prefixes.push_back(regions_prefix(set.disk, set.name));
    encoded.removed_prefixes.push_back(digests_prefix(set));
  }
}

}  // namespace

std::string set_prefix(const std::string& disk) {
  if (disk.empty()) return std::string(format::kSetPrefix);
  return std::string(format::kSetPrefix) + std::to_string(disk.size()) + ":" + disk + "/";
}
std::string set_key(const RegionSetId& set) { return set_prefix(set.disk) + set.name; }
std::string note_key(const std::string& topic, const std::string& name) {
  return std::string(format::kNotePrefix) + topic + "/" + name;
}

Result<std::string> encode_set(const RegionSetRecord& record) {
  Writer writer;
  writer.text(record.disk);
  writer.text(record.name);
  writer.text(record.kind);
  writer.number(record.size_bytes);
  writer.number(record.granularity_bytes);
  writer.number(record.inverted ? 1 : 0);
  writer.number(record.tag);
  writer.text(record.note);
  const std::string key = set_key({record.disk, record.name});
  return checked(key, record.disk.empty() ? record.disk : record.name,
                 writer.frame(Kind::kSet, key));
}

Result<std::string> encode_note(const NoteRecord& record) {
  for (const char c : record.topic) {
    if ((c < 'a' || c > 'z') && c != '-') {
      return Error(ErrorCode::kInvalid, "journal topic '" + record.topic + "'");
    }
  }
  Writer writer;
  writer.text(record.topic);
  writer.text(record.name);
  writer.text(record.text);
  const std::string key = note_key(record.topic, record.name);
  return checked(key, record.topic.empty() ? record.topic : record.name,
                 writer.frame(Kind::kNote, key));
}

Result<RegionSetRecord> decode_set(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kSet, key, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  RegionSetRecord record;
  record.disk = reader.text();
  record.name = reader.text();
  record.kind = reader.text();
  record.size_bytes = reader.number();
  const std::uint64_t granularity = reader.number();
  const std::uint64_t inverted = reader.number();
  record.tag = reader.number();
  record.note = reader.text();
  if (!reader.finished() || set_key({record.disk, record.name}) != key || granularity == 0 ||
      granularity > 0xffffffffU || inverted > 1) {
    return damaged(key, "payload");
  }
  record.granularity_bytes = static_cast<std::uint32_t>(granularity);
  record.inverted = inverted == 1;
  return record;
}

Result<NoteRecord> decode_note(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kNote, key, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  NoteRecord record;
  record.topic = reader.text();
  record.name = reader.text();
  record.text = reader.text();
  if (!reader.finished() || note_key(record.topic, record.name) != key) {
    return damaged(key, "payload");
  }
  return record;
}

Result<EncodedBatch> encode_batch(const JournalBatch& batch) {
  EncodedBatch encoded;
  encode_removals(batch, encoded);
  Puts puts(encoded);
  for (const DiskRecord& disk : batch.disks) puts.add(disk_key(disk.disk), encode_disk(disk));
  for (const JobRecord& job : batch.jobs) puts.add(job_key(job.id), encode_job(job));
  for (const RegionSetRecord& set : batch.sets) {
    puts.add(set_key({set.disk, set.name}), encode_set(set));
  }
  for (const RegionChange& change : batch.regions) puts.add(change);
  for (const HydrationRecord& hydration : batch.hydrations) {
    puts.add(hydration_key(hydration.disk), encode_hydration(hydration));
  }
  for (const NoteRecord& note : batch.notes) {
    puts.add(note_key(note.topic, note.name), encode_note(note));
  }
  const std::size_t others = encoded.puts.size();
  for (const DigestChange& change : batch.digests) puts.add(change);
  encoded.digests = encoded.puts.size() - others;
  if (!puts.failed()) return puts.failed().error();
  return encoded;
}

JournalBatch distrust(const std::vector<RegionSetRecord>& sets) {
  JournalBatch batch;
  for (RegionSetRecord set : sets) {
    batch.removed_sets.push_back({set.disk, set.name});
    if (set.kind == kBitmapSet) {
      set.kind = kDistrustedBitmapSet;
      set.note = "the journal failed while the disk was written to";
    }
    if (set.kind == kDistrustedBitmapSet) batch.sets.push_back(std::move(set));
  }
  return batch;
}

void distrust_sets(std::map<std::string, std::string>& records) {
  std::vector<RegionSetRecord> sets;
  for (const auto& [key, value] : records) {
    if (!key.starts_with(format::kSetPrefix)) continue;
    const auto set = decode_set(key, value);
    if (set) sets.push_back(*set);
  }
  const Result<EncodedBatch> encoded = encode_batch(distrust(sets));
  if (encoded) apply_batch(*encoded, records);
}

void apply_batch(const EncodedBatch& batch, std::map<std::string, std::string>& records) {
  for (const std::string& prefix : batch.removed_prefixes) {
    auto at = records.lower_bound(prefix);
    while (at != records.end() && at->first.compare(0, prefix.size(), prefix) == 0) {
      at = records.erase(at);
    }
  }
  for (const std::string& key : batch.removed_keys) records.erase(key);
  for (const auto& [key, value] : batch.puts) records[key] = value;
}

}  // namespace blockmig

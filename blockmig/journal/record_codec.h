// SPDX-License-Identifier: Apache-2.0
// The bytes of the journal's keys and values. Layout in FORMAT.md. No I/O; pure functions; any
// thread.
//
// Encoding fails with kInvalid where a name is empty or a record exceeds its limit. Decoding fails
// with kProtocol where the value is damaged, truncated, of another kind, or stands under another
// key (its checksum covers the key), and with kPrecondition where its version is newer. Messages
// name the key.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

std::string disk_key(const std::string& disk);
std::string job_key(const std::string& id);
std::string hydration_key(const std::string& disk);
/// What the keys of a set's containers begin with. Lengths are part of it, so that no name can
/// pass for another's beginning.
std::string regions_prefix(const std::string& disk, const std::string& name);
std::string region_key(const std::string& disk, const std::string& name, std::uint32_t index);

/// The same of the digests that belong to a set.
std::string digests_prefix(const RegionSetId& set);
std::string digest_key(const RegionSetId& set, std::uint32_t index);

/// Of all sets of one disk; of all disks if it is empty.
std::string set_prefix(const std::string& disk);
std::string set_key(const RegionSetId& set);
std::string note_key(const std::string& topic, const std::string& name);

Result<std::string> encode_disk(const DiskRecord& record);
Result<std::string> encode_job(const JobRecord& record);
Result<std::string> encode_hydration(const HydrationRecord& record);
Result<std::string> encode_region(const std::string& disk, const std::string& name,
                                  const RegionContainer& container);
Result<std::string> encode_digests(const RegionSetId& set, const DigestContainer& container);
Result<std::string> encode_set(const RegionSetRecord& record);
Result<std::string> encode_note(const NoteRecord& record);
std::string encode_schema(std::uint32_t version);

Result<DiskRecord> decode_disk(std::string_view key, std::string_view value);
Result<JobRecord> decode_job(std::string_view key, std::string_view value);
Result<HydrationRecord> decode_hydration(std::string_view key, std::string_view value);
Result<RegionContainer> decode_region(std::string_view key, std::string_view value);
Result<DigestContainer> decode_digests(std::string_view key, std::string_view value);
Result<RegionSetRecord> decode_set(std::string_view key, std::string_view value);
Result<NoteRecord> decode_note(std::string_view key, std::string_view value);
Result<std::uint32_t> decode_schema(std::string_view value);

/// Decodes whatever kind of record stands under `key` (not the schema); an unknown key is
/// kProtocol.
Status check_record(std::string_view key, std::string_view value);

/// A change as the keys and values of one batch. kInvalid: too large, or a container that does not
/// encode.
struct EncodedChange {
  std::vector<std::pair<std::string, std::string>> put;
  std::vector<std::string> remove;
};
Result<EncodedChange> encode_change(const RegionChange& change);
Result<EncodedChange> encode_change(const DigestChange& change);

/// A batch as keys and values; removals come first.
struct EncodedBatch {
  std::vector<std::string> removed_prefixes;
  std::vector<std::string> removed_keys;
  std::vector<std::pair<std::string, std::string>> puts;
  /// Of `puts` the last ones are digests.
  std::size_t digests = 0;
};
/// Where there is no room for digests: what they replace is erased.
void leave_out_digests(EncodedBatch& batch);
Result<EncodedBatch> encode_batch(const JournalBatch& batch);
/// What makes these sets void (Journal::distrust_sets).
JournalBatch distrust(const std::vector<RegionSetRecord>& sets);
/// For journals in memory.
void distrust_sets(std::map<std::string, std::string>& records);
void apply_batch(const EncodedBatch& batch, std::map<std::string, std::string>& records);

}  // namespace blockmig

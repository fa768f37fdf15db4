// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/record_codec.h"

#include <cstdio>
#include <span>

#include "blockmig/base/bytes.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/record_frame.h"

namespace blockmig {

namespace format = record_format;
using format::Kind;
using record_frame::checked;
using record_frame::damaged;
using record_frame::open_frame;
using record_frame::Reader;
using record_frame::Writer;

std::string disk_key(const std::string& disk) { return std::string(format::kDiskPrefix) + disk; }
std::string job_key(const std::string& id) { return std::string(format::kJobPrefix) + id; }
std::string hydration_key(const std::string& disk) {
  return std::string(format::kHydrationPrefix) + disk;
}

namespace {

std::string containers_prefix(std::string_view kind, const std::string& disk,
                              const std::string& name) {
  return std::string(kind) + std::to_string(disk.size()) + ":" + disk + "/" +
         std::to_string(name.size()) + ":" + name + "/";
}

std::string container_key(const std::string& prefix, std::uint32_t index) {
  char digits[9];
  std::snprintf(digits, sizeof digits, "%08x", index);  // ascending by index
  return prefix + digits;
}

}  // namespace

std::string regions_prefix(const std::string& disk, const std::string& name) {
  return containers_prefix(format::kRegionPrefix, disk, name);
}

std::string region_key(const std::string& disk, const std::string& name, std::uint32_t index) {
  return container_key(regions_prefix(disk, name), index);
}

std::string digests_prefix(const RegionSetId& set) {
  return containers_prefix(format::kDigestPrefix, set.disk, set.name);
}

std::string digest_key(const RegionSetId& set, std::uint32_t index) {
  return container_key(digests_prefix(set), index);
}

Result<std::string> encode_disk(const DiskRecord& record) {
  Writer writer;
  writer.text(record.disk);
  writer.text(record.store_uri);
  writer.number(record.epoch);
  writer.number(record.size_bytes);
  writer.text(record.previous_uri);
  if (!record.hydration.empty()) writer.text(record.hydration);
  const std::string key = disk_key(record.disk);
  return checked(key, record.disk, writer.frame(Kind::kDisk, key));
}

Result<std::string> encode_job(const JobRecord& record) {
  Writer writer;
  writer.text(record.id);
  writer.text(record.disk);
  writer.text(record.mode);
  writer.text(record.target_uri);
  writer.text(record.state);
  writer.number(record.attempt);
  writer.text(record.report_json);
  writer.text(record.request);
  writer.text(record.on_restart);
  writer.text(record.phase);
  const std::string key = job_key(record.id);
  return checked(key, record.id, writer.frame(Kind::kJob, key, format::kJobVersion));
}

Result<std::string> encode_hydration(const HydrationRecord& record) {
  Writer writer;
  writer.text(record.disk);
  writer.number(record.epoch);
  writer.text(record.base_uri);
  writer.number(record.granularity_bytes);
  writer.number(record.reverse_mirror ? 1 : 0);
  writer.text(record.regions);
  writer.text(record.job);
  writer.number(record.bwlimit_bytes_per_second);
  writer.number(record.patience_ms);
  writer.number(record.read_back ? 1 : 0);
  if (record.base_generation != 0) {
    writer.number(record.base_generation);
    writer.number(static_cast<std::uint64_t>(record.hydrate));
  }
  const std::string key = hydration_key(record.disk);
  return checked(key, record.disk, writer.frame(Kind::kHydration, key));
}

Result<std::string> encode_region(const std::string& disk, const std::string& name,
                                  const RegionContainer& container) {
  if (container.bits.size() > format::kMaxContainerBytes) {
    return Error(ErrorCode::kInvalid, "a container of '" + name + "' has " +
                                          std::to_string(container.bits.size()) + " bytes");
  }
  std::string_view bits(reinterpret_cast<const char*>(container.bits.data()),
                        container.bits.size());
  while (!bits.empty() && bits.back() == '\0') bits.remove_suffix(1);
  Writer writer;
  writer.text(disk);
  writer.text(name);
  writer.number(container.index);
  writer.text(bits);
  const std::string key = region_key(disk, name, container.index);
  return checked(key, disk.empty() ? disk : name, writer.frame(Kind::kRegion, key));
}

Result<EncodedChange> encode_change(const RegionChange& change) {
  if (change.put.size() + change.erase.size() > kMaxContainersPerChange) {
    return Error(ErrorCode::kInvalid, "a change of '" + change.name + "' has " +
                                          std::to_string(change.put.size() + change.erase.size()) +
                                          " containers");
  }
  EncodedChange encoded;
  for (const RegionContainer& container : change.put) {
    auto value = encode_region(change.disk, change.name, container);
    if (!value) return value.error();
    encoded.put.emplace_back(region_key(change.disk, change.name, container.index),
                             *std::move(value));
  }
  for (const std::uint32_t index : change.erase) {
    encoded.remove.push_back(region_key(change.disk, change.name, index));
  }
  return encoded;
}

std::string encode_schema(std::uint32_t version) {
  Writer writer;
  writer.number(version);
  return writer.frame(Kind::kSchema, format::kSchemaKey);
}

Result<DiskRecord> decode_disk(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kDisk, key, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  DiskRecord record;
  record.disk = reader.text();
  record.store_uri = reader.text();
  record.epoch = reader.number();
  record.size_bytes = reader.number();
  record.previous_uri = reader.text();
  if (!reader.at_end()) record.hydration = reader.text();
  if (!reader.finished() || disk_key(record.disk) != key) return damaged(key, "payload");
  return record;
}

Result<JobRecord> decode_job(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kJob, key, value, format::kJobVersion);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  JobRecord record;
  record.id = reader.text();
  record.disk = reader.text();
  record.mode = reader.text();
  record.target_uri = reader.text();
  record.state = reader.text();
  record.attempt = reader.number();
  record.report_json = reader.text();
  if (opened->version >= 2) {  // schema 1 did not resume
    record.request = reader.text();
    record.on_restart = reader.text();
  }
  if (opened->version >= 3) record.phase = reader.text();
  if (!reader.finished() || job_key(record.id) != key) return damaged(key, "payload");
  return record;
}

Result<HydrationRecord> decode_hydration(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kHydration, key, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  HydrationRecord record;
  record.disk = reader.text();
  record.epoch = reader.number();
  record.base_uri = reader.text();
  const std::uint64_t granularity = reader.number();
  const std::uint64_t mirrored = reader.number();
  record.regions = reader.text();
  record.job = reader.text();
  record.bwlimit_bytes_per_second = reader.number();
  record.patience_ms = reader.number();
  const std::uint64_t read_back = reader.number();
  record.read_back = read_back == 1;
  if (read_back > 1) return damaged(key, "payload");
  std::uint64_t hydrate = 0;
  if (!reader.at_end()) {
    record.base_generation = reader.number();
    hydrate = reader.number();
    if (record.base_generation == 0) return damaged(key, "payload");  // then it is left out
  }
  if (!reader.finished() || hydration_key(record.disk) != key || granularity > 0xffffffffU ||
      mirrored > 1 || hydrate > static_cast<std::uint64_t>(Hydrate::kNever)) {
    return damaged(key, "payload");
  }
  record.granularity_bytes = static_cast<std::uint32_t>(granularity);
  record.reverse_mirror = mirrored == 1;
  record.hydrate = static_cast<Hydrate>(hydrate);
  return record;
}

Result<RegionContainer> decode_region(std::string_view key, std::string_view value) {
  const auto opened = open_frame(Kind::kRegion, key, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  const std::string disk = reader.text();
  const std::string name = reader.text();
  const std::uint64_t index = reader.number();
  const std::string bits = reader.text();
  if (!reader.finished() || index > 0xffffffffU || bits.size() > format::kMaxContainerBytes ||
      region_key(disk, name, static_cast<std::uint32_t>(index)) != key) {
    return damaged(key, "payload");
  }
  const ConstBytes bytes = std::as_bytes(std::span(bits));
  return RegionContainer{static_cast<std::uint32_t>(index), {bytes.begin(), bytes.end()}};
}

Status check_record(std::string_view key, std::string_view value) {
  const auto status_of = [](const auto& decoded) {
    return decoded.ok() ? Status() : Status(decoded.error());
  };
  if (key.starts_with(format::kDiskPrefix)) return status_of(decode_disk(key, value));
  if (key.starts_with(format::kJobPrefix)) return status_of(decode_job(key, value));
  if (key.starts_with(format::kRegionPrefix)) return status_of(decode_region(key, value));
  if (key.starts_with(format::kDigestPrefix)) return status_of(decode_digests(key, value));
  if (key.starts_with(format::kSetPrefix)) return status_of(decode_set(key, value));
  if (key.starts_with(format::kNotePrefix)) return status_of(decode_note(key, value));
  if (key.starts_with(format::kHydrationPrefix)) return status_of(decode_hydration(key, value));
  return Error(ErrorCode::kProtocol, "unknown record '" + std::string(key) + "'");
}

Result<std::uint32_t> decode_schema(std::string_view value) {
  const auto opened = open_frame(Kind::kSchema, format::kSchemaKey, value);
  if (!opened) return opened.error();
  Reader reader(opened->payload);
  const std::uint64_t version = reader.number();
  if (!reader.finished() || version == 0 || version > 0xffffffffU) {
    return damaged(format::kSchemaKey, "payload");
  }
  return static_cast<std::uint32_t>(version);
}

}  // namespace blockmig

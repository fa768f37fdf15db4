// SPDX-License-Identifier: Apache-2.0
// Fuzz target: the journal's records (FORMAT.md). Input: a byte of flags, two bytes for a length,
// a key of that length, then a value. With flag 1 the rest is a payload, and gets the header and
// the checksum that its key asks for: so everything behind the checksum is reached too. Checked: no
// decoder reads beyond its bytes; what decodes survives being encoded and decoded again; a region's
// runs lie within it, ascending.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "blockmig/base/check.h"
#include "blockmig/disk/region_snapshot.h"
#include "blockmig/journal/record_codec.h"
#include "blockmig/journal/record_format.h"
#include "blockmig/journal/record_frame.h"

namespace blockmig {
namespace {

namespace format = record_format;

format::Kind kind_of(std::string_view key) {
  if (key.starts_with(format::kDiskPrefix)) return format::Kind::kDisk;
  if (key.starts_with(format::kJobPrefix)) return format::Kind::kJob;
  if (key.starts_with(format::kRegionPrefix)) return format::Kind::kRegion;
  if (key.starts_with(format::kHydrationPrefix)) return format::Kind::kHydration;
  if (key.starts_with(format::kSetPrefix)) return format::Kind::kSet;
  if (key.starts_with(format::kNotePrefix)) return format::Kind::kNote;
  if (key.starts_with(format::kDigestPrefix)) return format::Kind::kDigests;
  return format::Kind::kSchema;
}

template <typename Record, typename Decode, typename Encode>
void check_round_trip(std::string_view key, std::string_view value, Decode decode, Encode encode) {
  const Result<Record> record = decode(key, value);
  if (!record.ok()) return;
  const Result<std::string> again = encode(*record);
  if (!again.ok()) return;  // no name, or beyond a limit
  const Result<Record> back = decode(key, *again);
  BM_CHECK(back.ok() && *back == *record);
}

void check_region(std::string_view key, std::string_view value) {
  const Result<RegionContainer> region = decode_region(key, value);
  if (!region.ok()) return;
  const std::uint64_t first_chunk = std::uint64_t{region->index} * kChunksPerContainer;
  std::uint64_t at = first_chunk;
  const Status within = for_each_run({*region}, first_chunk + kChunksPerContainer,
                                     [&at](std::uint64_t first, std::uint64_t end) {
                                       BM_CHECK(first >= at && end > first);
                                       at = end;
                                     });
  BM_CHECK(within.ok() && at <= first_chunk + kChunksPerContainer);
}

/// The set that the payload names.
Result<RegionSetId> set_of_digests(std::string_view value) {
  record_frame::Reader reader(value.substr(format::kHeaderBytes));
  RegionSetId set;
  set.disk = reader.text();
  set.name = reader.text();
  if (!reader.ok()) return Error(ErrorCode::kProtocol, "no set");
  return set;
}

/// What decodes survives being encoded and decoded again under its own key.
void check_digests(std::string_view key, std::string_view value) {
  const Result<DigestContainer> digests = decode_digests(key, value);
  if (!digests.ok()) return;
  BM_CHECK(digests->digests.size() == digests->known.count());
  BM_CHECK((digests->known & digests->zeros).none());
  const Result<RegionSetId> set = set_of_digests(value);
  BM_CHECK(set.ok());
  const Result<std::string> again = encode_digests(*set, *digests);
  if (!again.ok()) return;  // no name
  BM_CHECK(digest_key(*set, digests->index) == key);
  const Result<DigestContainer> back = decode_digests(key, *again);
  BM_CHECK(back.ok() && *back == *digests);
}

void check(std::string_view key, std::string_view value) {
  const Status known = check_record(key, value);
  static_cast<void>(known);
  static_cast<void>(decode_schema(value));
  check_round_trip<DiskRecord>(key, value, decode_disk, encode_disk);
  check_round_trip<JobRecord>(key, value, decode_job, encode_job);
  check_round_trip<HydrationRecord>(key, value, decode_hydration, encode_hydration);
  check_round_trip<RegionSetRecord>(key, value, decode_set, encode_set);
  check_round_trip<NoteRecord>(key, value, decode_note, encode_note);
  check_region(key, value);
  check_digests(key, value);
}

}  // namespace
}  // namespace blockmig

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace blockmig;
  if (size < 3) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t key_bytes = std::size_t{data[1]} | std::size_t{data[2]} << 8;
  const std::string_view key = input.substr(3, key_bytes);
  const std::string_view rest = input.substr(3 + key.size());
  if ((data[0] & 1) == 0) {
    check(key, rest);
    return 0;
  }
  record_frame::Writer writer;
  writer.bytes(rest);
  const auto version = static_cast<std::uint8_t>(1 + (data[0] >> 1) % 3);
  check(key, writer.frame(kind_of(key), key, version));
  return 0;
}

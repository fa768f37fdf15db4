// SPDX-License-Identifier: Apache-2.0
#include "sharedfs/manifest.h"

#include <cstring>
#include <utility>

#include "blockmig/base/crc32c.h"
#include "blockmig/base/endian.h"
#include "sharedfs/manifest_format.h"

namespace blockmig {
namespace {

using namespace manifest_format;  // NOLINT: the constants of this file's one format

Error damaged(const std::string& what) { return Error(ErrorCode::kProtocol, "manifest: " + what); }

template <typename T>
T field(ConstBytes bytes, std::size_t at) {
  return load_le<T>(bytes.data() + at);
}

/// Everything but the runs.
Status check_header(ConstBytes bytes) {
  if (bytes.size() < kHeaderBytes + kCrcBytes) {
    return damaged("truncated at " + std::to_string(bytes.size()) + " bytes");
  }
  if (std::memcmp(bytes.data() + kMagicAt, kMagic.data(), kMagic.size()) != 0) {
    return damaged("this is not a manifest (magic)");
  }
  // Before the version: what is damaged must not pass for something newer.
  const std::size_t crc_at = bytes.size() - kCrcBytes;
  if (crc32c(bytes.first(crc_at)) != field<std::uint32_t>(bytes, crc_at)) {
    return damaged("damaged or truncated (checksum)");
  }
  const auto version = field<std::uint16_t>(bytes, kVersionAt);
  if (version > kVersion) {
    return Error(ErrorCode::kPrecondition, "manifest: version " + std::to_string(version) +
                                               " is newer than " + std::to_string(kVersion));
  }
  if (version != kVersion) return damaged("version 0");
  const auto flags = field<std::uint16_t>(bytes, kFlagsAt);
  if ((flags & ~kChanging) != 0) return damaged("unknown flags");
  const auto granularity = field<std::uint32_t>(bytes, kGranularityAt);
  if (granularity != ChunkDigests::kChunkBytes) {
    return damaged("granularity " + std::to_string(granularity));
  }
  const auto owner_bytes = field<std::uint32_t>(bytes, kOwnerBytesAt);
  if (owner_bytes > kMaxOwnerBytes || owner_bytes > crc_at - kHeaderBytes) {
    return damaged("owner of " + std::to_string(owner_bytes) + " bytes");
  }
  return {};
}

/// Takes the run at the front of `rest` off it. `from`: the first chunk that may come.
Status take_run(ConstBytes& rest, std::uint64_t& from, ChunkDigests& into) {
  if (rest.size() < kRunBytes) return damaged("a run is cut off");
  const auto kind = static_cast<std::uint8_t>(rest[0]);
  const auto first = field<std::uint64_t>(rest, 1);
  const auto count = field<std::uint64_t>(rest, 9);
  rest = rest.subspan(kRunBytes);
  const std::uint64_t chunks = into.chunk_count();
  if (kind != kKnownRun && kind != kUnknownRun) return damaged("unknown kind of run");
  if (first < from || count == 0 || !fits(first, count, chunks)) {
    return damaged("run of " + std::to_string(count) + " chunks at " + std::to_string(first) +
                   " is out of order, or beyond the image's " + std::to_string(chunks));
  }
  from = first + count;
  if (kind == kUnknownRun) {
    const std::uint64_t offset = first * ChunkDigests::kChunkBytes;
    into.invalidate(offset, into.chunk_range(from - 1).end() - offset);
    return {};
  }
  if (count > rest.size() / kDigestBytes) return damaged("the digests of a run are cut off");
  for (std::uint64_t chunk = first; chunk < from; ++chunk) {
    into.set_digest(chunk, Digest{load_be<std::uint64_t>(rest.data()),
                                  load_be<std::uint64_t>(rest.data() + 8)});
    rest = rest.subspan(kDigestBytes);
  }
  return {};
}

void append_run(std::vector<std::byte>& bytes, const ChunkDigests::Run& run,
                const ChunkDigests& digests) {
  std::size_t at = bytes.size();
  bytes.resize(at + kRunBytes + (run.known ? run.count * kDigestBytes : 0));
  bytes[at] = static_cast<std::byte>(run.known ? kKnownRun : kUnknownRun);
  store_le<std::uint64_t>(bytes.data() + at + 1, run.first);
  store_le<std::uint64_t>(bytes.data() + at + 9, run.count);
  if (!run.known) return;
  at += kRunBytes;
  for (std::uint64_t chunk = run.first; chunk < run.first + run.count; ++chunk) {
    const Digest digest = *digests.find(chunk);
    store_be<std::uint64_t>(bytes.data() + at, digest.high);
    store_be<std::uint64_t>(bytes.data() + at + 8, digest.low);
    at += kDigestBytes;
  }
}

}  // namespace

std::vector<std::byte> encode_manifest(const Manifest& manifest) {
  BM_CHECK(manifest.owner.size() <= kMaxOwnerBytes);
  const auto runs = manifest.digests.runs();
  std::vector<std::byte> bytes(kHeaderBytes + manifest.owner.size());
  std::byte* const header = bytes.data();
  std::memcpy(header + kMagicAt, kMagic.data(), kMagic.size());
  store_le<std::uint16_t>(header + kVersionAt, kVersion);
  store_le<std::uint16_t>(header + kFlagsAt, manifest.changing ? kChanging : std::uint16_t{0});
  store_le<std::uint32_t>(header + kGranularityAt,
                          static_cast<std::uint32_t>(ChunkDigests::kChunkBytes));
  store_le<std::uint64_t>(header + kSizeAt, manifest.size_bytes());
  store_le<std::uint64_t>(header + kGenerationAt, manifest.generation);
  store_le<std::uint64_t>(header + kOwnerEpochAt, manifest.owner_epoch);
  store_le<std::uint64_t>(header + kInodeAt, manifest.image.inode);
  store_le<std::uint64_t>(header + kModifiedAt,
                          static_cast<std::uint64_t>(manifest.image.modified_ns));
  store_le<std::uint64_t>(header + kRunCountAt, runs.size());
  store_le<std::uint32_t>(header + kOwnerBytesAt,
                          static_cast<std::uint32_t>(manifest.owner.size()));
  if (!manifest.owner.empty()) {
    std::memcpy(header + kHeaderBytes, manifest.owner.data(), manifest.owner.size());
  }
  for (const ChunkDigests::Run& run : runs) append_run(bytes, run, manifest.digests);
  const std::size_t crc_at = bytes.size();
  bytes.resize(crc_at + kCrcBytes);
  store_le<std::uint32_t>(bytes.data() + crc_at, crc32c(ConstBytes(bytes).first(crc_at)));
  return bytes;
}

Result<Manifest> decode_manifest(ConstBytes bytes) {
  const Status checked = check_header(bytes);
  if (!checked) return checked.error();
  Manifest manifest(field<std::uint64_t>(bytes, kSizeAt));
  if (manifest.digests.chunk_count() > std::uint64_t{UINT32_MAX} + 1) {
    return damaged("image of " + std::to_string(manifest.size_bytes()) + " bytes");
  }
  manifest.generation = field<std::uint64_t>(bytes, kGenerationAt);
  manifest.owner_epoch = field<std::uint64_t>(bytes, kOwnerEpochAt);
  manifest.changing = (field<std::uint16_t>(bytes, kFlagsAt) & kChanging) != 0;
  manifest.image.inode = field<std::uint64_t>(bytes, kInodeAt);
  manifest.image.modified_ns = static_cast<std::int64_t>(field<std::uint64_t>(bytes, kModifiedAt));
  const auto owner_bytes = field<std::uint32_t>(bytes, kOwnerBytesAt);
  ConstBytes rest = bytes.first(bytes.size() - kCrcBytes).subspan(kHeaderBytes);
  manifest.owner.assign(reinterpret_cast<const char*>(rest.data()), owner_bytes);
  rest = rest.subspan(owner_bytes);
  const auto run_count = field<std::uint64_t>(bytes, kRunCountAt);
  std::uint64_t from = 0;
  for (std::uint64_t i = 0; i < run_count; ++i) {
    const Status taken = take_run(rest, from, manifest.digests);
    if (!taken) return taken.error();
  }
  if (!rest.empty()) return damaged("bytes behind the last run");
  return manifest;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The constants of the journal's keys and values. FORMAT.md is the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace blockmig::record_format {

/// Grows with every change that an older program must not touch.
inline constexpr std::uint32_t kSchemaVersion = 4;

inline constexpr std::string_view kSchemaKey = "schema";
inline constexpr std::string_view kDiskPrefix = "disk/";
inline constexpr std::string_view kJobPrefix = "job/";
inline constexpr std::string_view kRegionPrefix = "region/";
inline constexpr std::string_view kDigestPrefix = "digest/";
inline constexpr std::string_view kHydrationPrefix = "hydration/";
inline constexpr std::string_view kSetPrefix = "set/";
inline constexpr std::string_view kNotePrefix = "note/";

/// The first byte of a value.
enum class Kind : std::uint8_t {
  kSchema = 'S',
  kDisk = 'D',
  kJob = 'J',
  kRegion = 'R',
  kHydration = 'H',
  kSet = 'T',
  kNote = 'N',
  kDigests = 'X',
};

/// The second byte: the layout of that kind of record.
inline constexpr std::uint8_t kRecordVersion = 1;
inline constexpr std::uint8_t kJobVersion = 3;

// A value: kind u8, version u8, zero u16, payload length u32, payload, CRC32C u32; little-endian.
inline constexpr std::size_t kKindAt = 0;
inline constexpr std::size_t kVersionAt = 1;
inline constexpr std::size_t kZeroAt = 2;
inline constexpr std::size_t kPayloadBytesAt = 4;
inline constexpr std::size_t kHeaderBytes = 8;
inline constexpr std::size_t kCrcBytes = 4;

/// Of a key, and of a whole value. A job's report is the only large thing.
inline constexpr std::size_t kMaxKeyBytes = 1024;
inline constexpr std::size_t kMaxValueBytes = 1024 * 1024;

/// Of a region container's bits: one for each of its 32,768 chunks.
inline constexpr std::size_t kMaxContainerBytes = 4096;

/// Of a digest: as its hexadecimal digits, without them.
inline constexpr std::size_t kDigestBytes = 16;

}  // namespace blockmig::record_format

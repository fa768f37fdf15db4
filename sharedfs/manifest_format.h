// SPDX-License-Identifier: Apache-2.0
// The constants of a manifest's bytes. FORMAT.md is the text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace blockmig::manifest_format {

inline constexpr std::string_view kMagic = "BMMANIF\n";
inline constexpr std::uint16_t kVersion = 1;
/// Flags: the owner is writing to the image.
inline constexpr std::uint16_t kChanging = 1;

// Header; little-endian.
inline constexpr std::size_t kMagicAt = 0;
inline constexpr std::size_t kVersionAt = 8;
inline constexpr std::size_t kFlagsAt = 10;
inline constexpr std::size_t kGranularityAt = 12;
inline constexpr std::size_t kSizeAt = 16;
inline constexpr std::size_t kGenerationAt = 24;
inline constexpr std::size_t kOwnerEpochAt = 32;
inline constexpr std::size_t kInodeAt = 40;
inline constexpr std::size_t kModifiedAt = 48;
inline constexpr std::size_t kRunCountAt = 56;
inline constexpr std::size_t kOwnerBytesAt = 64;
inline constexpr std::size_t kHeaderBytes = 68;
inline constexpr std::size_t kCrcBytes = 4;

// A run: kind u8, first chunk u64, count u64; where known, 16 bytes for each chunk.
inline constexpr std::size_t kRunBytes = 17;
inline constexpr std::size_t kDigestBytes = 16;
inline constexpr std::uint8_t kKnownRun = 1;
inline constexpr std::uint8_t kUnknownRun = 2;

inline constexpr std::size_t kMaxOwnerBytes = 1024;
/// Of a file that is read as a manifest: the digests of 16 TiB without a zero, and their runs.
inline constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{5} << 30;

}  // namespace blockmig::manifest_format

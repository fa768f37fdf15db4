// SPDX-License-Identifier: Apache-2.0
// The constants of an owner's stamp. FORMAT.md is the text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace blockmig::owner_format {

/// Beside "vm1.img": "vm1.img.blockmig-owner".
inline constexpr const char* kSuffix = ".blockmig-owner";

inline constexpr std::array<char, 8> kMagic = {'B', 'M', 'O', 'W', 'N', 'E', 'R', '\n'};
/// A stamp is written in the oldest version that can say what it says.
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint16_t kVersionWithFlags = 2;
inline constexpr std::uint16_t kVersionWithIncarnation = 3;

/// The file has two slots; a change writes the one that is older.
inline constexpr std::size_t kSlotBytes = 16 * 1024;
inline constexpr std::size_t kFileBytes = 2 * kSlotBytes;

// A slot: header, from version 2 flags (u64), from version 3 the incarnation (u64), four texts,
// from version 3 five (each its length u32, then its bytes), CRC32C; the rest means nothing.
inline constexpr std::size_t kVersionAt = 8;        // u16
inline constexpr std::size_t kStateAt = 10;         // u16
inline constexpr std::size_t kTextBytesAt = 12;     // u32: from the flags to the texts
inline constexpr std::size_t kSequenceAt = 16;      // u64
inline constexpr std::size_t kEpochAt = 24;         // u64
inline constexpr std::size_t kTokenAt = 32;         // u64
inline constexpr std::size_t kInodeAt = 40;         // u64
inline constexpr std::size_t kBornAt = 48;          // i64
inline constexpr std::size_t kLeftSizeAt = 56;      // u64
inline constexpr std::size_t kLeftModifiedAt = 64;  // i64
inline constexpr std::size_t kHeaderBytes = 72;
inline constexpr std::size_t kFlagBytes = 8;
inline constexpr std::uint64_t kFlagUnrecorded = 1;
inline constexpr std::uint64_t kFlagUnpublished = 2;  // from version 3
inline constexpr std::size_t kIncarnationBytes = 8;
inline constexpr std::size_t kCrcBytes = 4;

}  // namespace blockmig::owner_format

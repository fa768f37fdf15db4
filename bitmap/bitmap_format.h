// SPDX-License-Identifier: Apache-2.0
// The constants of a bitmap frame. FORMAT.md is the text.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace blockmig::bitmap_format {

inline constexpr std::array<char, 8> kMagic = {'B', 'M', 'D', 'I', 'R', 'T', 'Y', '\n'};
inline constexpr std::uint16_t kVersion = 1;

// Offsets of the header's fields, all little-endian.
inline constexpr std::size_t kMagicAt = 0;
inline constexpr std::size_t kVersionAt = 8;        ///< u16
inline constexpr std::size_t kFlagsAt = 10;         ///< u16, zero
inline constexpr std::size_t kGranularityAt = 12;   ///< u32, bytes
inline constexpr std::size_t kSizeAt = 16;          ///< u64, bytes
inline constexpr std::size_t kDirtyCountAt = 24;    ///< u64, chunks
inline constexpr std::size_t kPayloadBytesAt = 32;  ///< u64
inline constexpr std::size_t kHeaderBytes = 40;
inline constexpr std::size_t kCrcBytes = 4;  ///< u32 behind the payload, over all before it

}  // namespace blockmig::bitmap_format

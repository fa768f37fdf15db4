// SPDX-License-Identifier: Apache-2.0
// What a history client puts into a sector: its number, the write's number and bytes that follow
// from both, so that any mixture of two writes, or of two sectors, is recognised as such.
#pragma once

#include <cstdint>
#include <string>

namespace blockmig::bench {

inline constexpr std::uint32_t kSectorBytes = 512;

void stamp_sector(char* out, std::uint64_t run, std::uint64_t sector, std::uint64_t write);
/// Of kSectorBytes; never returns the same for two different stamps in practice (64 bits).
std::uint64_t hash_sector(const char* data);
/// The hash of a sector of zeros.
std::uint64_t hash_of_zeros();
/// For a person: "write 17 of sector 4", "zeros", or the first bytes.
std::string describe_sector(const char* data, std::uint64_t run);

}  // namespace blockmig::bench

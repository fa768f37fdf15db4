// SPDX-License-Identifier: Apache-2.0
// PskKey: one user of a file of pre-shared keys, as psktool writes it: a line "user:hex" each.
// Values; any thread.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "blockmig/base/error.h"

namespace blockmig {

/// 128 bits: what is shorter can be guessed offline by whoever sees one handshake.
inline constexpr std::size_t kMinPskBytes = 16;
inline constexpr std::size_t kMaxPskBytes = 512;
inline constexpr std::size_t kMaxPskUserBytes = 128;

struct PskKey {
  std::string user;
  std::string key;  ///< raw bytes
};

/// Parses the content of such a file. A user name "#hex" stands for the bytes that the digits say,
/// as in GnuTLS. kInvalid, with `path` and the line's number (never a key) in the message: a line
/// without a key, a key that is no hexadecimal, too short or too long, a user given twice; no user
/// at all.
Result<std::vector<PskKey>> parse_psk_keys(std::string_view content, const std::string& path);

}  // namespace blockmig

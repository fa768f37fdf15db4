// SPDX-License-Identifier: Apache-2.0
// CRC32C (Castagnoli, RFC 3720 appendix B.4): guards every record and frame against damage.
// Pure functions; any thread.
#pragma once

#include <cstdint>

#include "blockmig/base/bytes.h"

namespace blockmig {

/// Of `bytes`, continued from `seed` (the CRC of what came before; 0 at the start). Uses SSE 4.2
/// where the machine has it, which it asks once.
std::uint32_t crc32c(ConstBytes bytes, std::uint32_t seed = 0);

namespace detail {  // the two ways, so that a test can compare them
std::uint32_t crc32c_portable(ConstBytes bytes, std::uint32_t seed);
/// Only where crc32c_has_hardware().
std::uint32_t crc32c_hardware(ConstBytes bytes, std::uint32_t seed);
bool crc32c_has_hardware();
}  // namespace detail

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Room at a store, for the check before a migration starts.
#pragma once

#include <cstdint>
#include <string>

#include "blockmig/base/error.h"

namespace blockmig {

/// Bytes that an unprivileged process can still allocate on the filesystem of `path`; a file that
/// does not exist yet is judged by its folder. Blocks (a network filesystem may hang): call it off
/// the loop.
Result<std::uint64_t> free_space_bytes(const std::string& path);

}  // namespace blockmig

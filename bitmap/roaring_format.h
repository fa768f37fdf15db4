// SPDX-License-Identifier: Apache-2.0
// Reads Roaring's portable format (RoaringFormatSpec) without trusting it.
//
// CRoaring 0.2.66 checks bounds when it reads, and nothing else: unsorted arrays, overlapping runs,
// wrong cardinalities and stray offsets pass and break it later. So every rule of the format is
// checked here first, and CRoaring sees only what passed. Pure; allocates nothing; time is linear
// in the bytes.
#pragma once

#include <cstdint>
#include <functional>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"

namespace blockmig {

/// Calls `visit(first, end)` for non-empty runs of members that together are the set, ascending and
/// disjoint. Members must be below `limit` (<= 2^32), and `bytes` exactly one set.
/// kProtocol names the place; visits made before that are void.
Status walk_portable(ConstBytes bytes, std::uint64_t limit,
                     const std::function<void(std::uint64_t first, std::uint64_t end)>& visit);

}  // namespace blockmig

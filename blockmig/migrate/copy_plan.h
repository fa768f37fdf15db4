// SPDX-License-Identifier: Apache-2.0
// What of a piece of the disk must travel to the target. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "blockmig/base/bytes.h"

namespace blockmig {

struct CopyPiece {
  enum class Kind : unsigned char {
    kSkip,  ///< zeros, and the target is zero there
    kZero,  ///< zeros, and the target may hold something else
    kWrite,
  };
  ByteRange range;
  Kind kind = Kind::kWrite;
  friend bool operator==(const CopyPiece&, const CopyPiece&) = default;
};

/// Splits `content`, which lies at `offset` on the disk, into pieces that cover it without gaps.
/// `target_is_zero(chunk)` says whether the target surely reads as zeros in the whole chunk. There,
/// holes are found in steps of 4 KiB, so that a sparse image stays as sparse as it was; of
/// `block_bytes` where the target takes only blocks that are larger.
std::vector<CopyPiece> plan_copy(std::uint64_t offset, ConstBytes content,
                                 std::uint32_t granularity_bytes, std::uint32_t block_bytes,
                                 const std::function<bool(std::uint64_t chunk)>& target_is_zero);

}  // namespace blockmig

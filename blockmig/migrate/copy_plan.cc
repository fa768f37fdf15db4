// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/copy_plan.h"

#include <algorithm>

namespace blockmig {
namespace {

constexpr std::uint64_t kHoleStepBytes = 4096;

void append(std::vector<CopyPiece>& pieces, ByteRange range, CopyPiece::Kind kind) {
  if (!pieces.empty() && pieces.back().kind == kind) {
    pieces.back().range.length += range.length;
  } else {
    pieces.push_back({range, kind});
  }
}

void append_fresh(std::vector<CopyPiece>& pieces, std::uint64_t offset, ConstBytes content,
                  std::uint64_t step_bytes) {
  while (!content.empty()) {
    const std::uint64_t step = std::min<std::uint64_t>(
        content.size(), align_down(offset, step_bytes) + step_bytes - offset);
    const bool zero = is_all_zero(content.first(step));
    append(pieces, {offset, step}, zero ? CopyPiece::Kind::kSkip : CopyPiece::Kind::kWrite);
    content = content.subspan(step);
    offset += step;
  }
}

}  // namespace

std::vector<CopyPiece> plan_copy(std::uint64_t offset, ConstBytes content,
                                 std::uint32_t granularity_bytes, std::uint32_t block_bytes,
                                 const std::function<bool(std::uint64_t chunk)>& target_is_zero) {
  const std::uint64_t step_bytes = std::max<std::uint64_t>(kHoleStepBytes, block_bytes);
  std::vector<CopyPiece> pieces;
  while (!content.empty()) {
    const std::uint64_t chunk = offset / granularity_bytes;
    const std::uint64_t length =
        std::min<std::uint64_t>(content.size(), (chunk + 1) * granularity_bytes - offset);
    const ConstBytes here = content.first(length);
    if (target_is_zero(chunk)) {
      append_fresh(pieces, offset, here, step_bytes);
    } else {
      append(pieces, {offset, length},
             is_all_zero(here) ? CopyPiece::Kind::kZero : CopyPiece::Kind::kWrite);
    }
    content = content.subspan(length);
    offset += length;
  }
  return pieces;
}

}  // namespace blockmig

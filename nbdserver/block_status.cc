// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/block_status.h"

#include <algorithm>

namespace blockmig::nbd {
namespace {

/// Collects runs in order, from range.offset on: cuts them to the range, to whole blocks, and joins
/// equal neighbours. In a block with more than one status, `mix` of all of them is said.
template <typename Mix>
class StatusBuilder final {
 public:
  StatusBuilder(const StatusRange& range, Mix mix)
      : range_(range), mix_(mix), at_(range.offset), emitted_(range.offset) {}

  /// False if the run does not continue the one before.
  bool add(std::uint64_t offset, std::uint64_t length, std::uint32_t flags) {
    if (offset != at_ || length == 0) return false;
    const std::uint64_t end = std::min(offset + length, range_.offset + range_.length);
    if (end <= at_) return true;
    if (at_ > emitted_) {
      // A block is open: this run takes part in its status.
      pending_ = mix_(pending_, flags);
      const std::uint64_t block_end = emitted_ + range_.minimum_block;
      at_ = std::min(end, block_end);
      if (at_ < block_end) return true;
      emit(block_end, pending_);
    }
    const std::uint64_t whole = align_down(end - emitted_, range_.minimum_block);
    if (whole > 0) emit(emitted_ + whole, flags);
    pending_ = flags;
    at_ = end;
    return true;
  }

  std::vector<StatusExtent> take() {
    // A tail shorter than a block: the end of the request, or of an export of odd size.
    if (at_ > emitted_ && (at_ == range_.offset + range_.length)) emit(at_, pending_);
    if (range_.one && extents_.size() > 1) extents_.resize(1);
    return std::move(extents_);
  }

 private:
  void emit(std::uint64_t until, std::uint32_t flags) {
    if (!extents_.empty() && extents_.back().flags == flags) {
      extents_.back().length += until - emitted_;
    } else {
      extents_.push_back({until - emitted_, flags});
    }
    emitted_ = until;
  }

  StatusRange range_;
  Mix mix_;
  std::uint64_t at_;           ///< where the next run must begin
  std::uint64_t emitted_;      ///< up to here extents_ speak
  std::uint32_t pending_ = 0;  ///< status of [emitted_, at_)
  std::vector<StatusExtent> extents_;
};

}  // namespace

std::vector<StatusExtent> allocation_status(const StatusRange& range,
                                            std::span<const Extent> extents) {
  // A block is a hole, or zero, only if all of it is.
  StatusBuilder builder(range, [](std::uint32_t a, std::uint32_t b) { return a & b; });
  for (const Extent& extent : extents) {
    const std::uint32_t flags = (extent.hole ? kStateHole : 0) | (extent.zero ? kStateZero : 0);
    if (!builder.add(extent.offset, extent.length, flags)) return {};
  }
  return builder.take();
}

std::vector<StatusExtent> depth_status(const StatusRange& range, std::span<const Extent> extents) {
  // A block has the depth of its topmost part.
  StatusBuilder builder(range, [](std::uint32_t a, std::uint32_t b) { return a | b; });
  for (const Extent& extent : extents) {
    if (!builder.add(extent.offset, extent.length, extent.hole ? 0 : 1)) return {};
  }
  return builder.take();
}

std::vector<StatusExtent> dirty_status(const StatusRange& range,
                                       std::span<const DirtyBitmap::Run> runs) {
  StatusBuilder builder(range, [](std::uint32_t a, std::uint32_t b) { return a | b; });
  for (const DirtyBitmap::Run& run : runs) {
    if (!builder.add(run.range.offset, run.range.length, run.dirty ? kStateDirty : 0)) return {};
  }
  return builder.take();
}

}  // namespace blockmig::nbd

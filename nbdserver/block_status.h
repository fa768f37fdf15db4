// SPDX-License-Identifier: Apache-2.0
// From what a device or a bitmap knows to the descriptors of a block status reply. Pure; any
// thread.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/block/block_device.h"
#include "nbdserver/reply_codec.h"

namespace blockmig::nbd {

/// The part of an export that a status reply may speak about.
struct StatusRange {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;         ///< bytes, not zero, inside the export
  std::uint32_t minimum_block = 1;  ///< descriptors are multiples of it
  bool one = false;                 ///< REQ_ONE: one descriptor
};

/// base:allocation. Empty if `extents` do not begin at range.offset, or cover less than one block:
/// the device broke its contract.
std::vector<StatusExtent> allocation_status(const StatusRange& range,
                                            std::span<const Extent> extents);
/// qemu:allocation-depth: how far down a chain of images the data is: 0 = nowhere, 1 = in the
/// image itself; ours have no backing image. Empty as above.
std::vector<StatusExtent> depth_status(const StatusRange& range, std::span<const Extent> extents);
/// qemu:dirty-bitmap, and blockmig:hydration, where a set bit means "not here yet". Empty as above.
std::vector<StatusExtent> dirty_status(const StatusRange& range,
                                       std::span<const DirtyBitmap::Run> runs);

}  // namespace blockmig::nbd

// SPDX-License-Identifier: Apache-2.0
// scan_image: the digests of a device's chunks. Reads only what is allocated, several requests at a
// time, and hashes off the loop. Thread rule: the device's loop.
#pragma once

#include <cstdint>
#include <functional>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

struct ScanOptions {
  static constexpr std::uint64_t kRequestBytes = 1 * kMiB;  ///< whole chunks
  std::uint32_t depth = 8;                                  ///< requests at a time
  CancelSource* cancel = nullptr;                           ///< may be null
  /// Whether to hash this chunk at all; empty: every one. What is left out stays as it is in
  /// `into`.
  std::function<bool(std::uint64_t chunk)> wanted;
  /// Bytes of the image that are behind it; from the loop.
  std::function<void(std::uint64_t done)> progress;
};

/// Into `into`, which has the device's size and holds zeros where the device has. Errors name the
/// offset; kCancelled.
Task<Status> scan_image(EventLoop& loop, BlockDevice& device, ChunkDigests& into,
                        ScanOptions options);

}  // namespace blockmig

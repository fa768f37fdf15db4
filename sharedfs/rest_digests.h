// SPDX-License-Identifier: Apache-2.0
// RestDigests: the digests of an image of which part stays at rest, while the rest of it is in use.
//
// The chunks that rest are a set that only shrinks: whoever writes to one takes it out, before a
// reader of the set can be misled by an old digest. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <memory>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/chunk_digests.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/task.h"

namespace blockmig {

class RestDigests final {
 public:
  RestDigests(EventLoop& loop, std::uint64_t size_bytes) : loop_(loop), digests_(size_bytes) {}

  /// Once. Reads the chunks of `rest` (of at least 64 KiB each) from `store`.
  Task<Status> hash(BlockDevice& store, const DirtyBitmap& rest, CancelSource& cancel);
  /// The image's digests as they are now: known where it rests, zeros where nothing was ever
  /// written, unknown elsewhere. While somebody writes they are sure only of what stays in `rest`.
  Task<Result<std::shared_ptr<ChunkDigests>>> describe(BlockDevice& store, const DirtyBitmap& rest);

 private:
  EventLoop& loop_;
  ChunkDigests digests_;
  bool described_ = false;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// WriteMirror: what a migration puts into a disk's write path to make writes reach a second store.
//
// While one is attached, the disk hands it every request that changes data or makes it durable,
// after the gate and after the named bitmaps were marked. The mirror then owns the request: it
// applies it to `store` (always, and its result is what the guest gets), to the target where that
// is in order, and keeps the job's dirty bitmap exact (I5). Reads never come here. Thread rule: the
// disk's loop.
#pragma once

#include <cstdint>

#include "blockmig/block/block_device.h"

namespace blockmig {

class WriteMirror {
 public:
  virtual ~WriteMirror() = default;

  virtual Task<Status> write(BlockDevice& store, std::uint64_t offset, ConstBytes from,
                             WriteFlags flags) = 0;
  virtual Task<Status> write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                                    ZeroFlags flags) = 0;
  virtual Task<Status> trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                            WriteFlags flags) = 0;
  virtual Task<Status> flush(BlockDevice& store) = 0;
};

}  // namespace blockmig

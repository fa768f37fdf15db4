// SPDX-License-Identifier: Apache-2.0
// WriteMirror: what a migration puts into a disk's write path to make writes reach a second store.
//
// While one is attached, the disk hands it every request that changes data or makes it durable,
// after the gate and after the named bitmaps were marked. The mirror then owns the request: it
// applies it to `store` (always, and its result is what the guest gets), to the target where that
// is in order, and keeps the job's dirty bitmap exact (I5). Reads never come here.
//
// A request that a mirror lets wait is inside the gate, and a switchover waits for whoever is. So a
// mirror may turn it away as long as nothing of it was done: the disk takes it out of the gate and
// lets it enter again, which it does when the switchover is over. Thread rule: the disk's loop.
#pragma once

#include <cstdint>

#include "blockmig/block/block_device.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

/// One request, over all its entries by the gate; it outlives the mirror's calls.
struct MirrorVisit {
  Duration waited{};         ///< inside, before it was turned away
  bool turned_away = false;  ///< nothing was done, the status says nothing: enter again
};

class WriteMirror {
 public:
  virtual ~WriteMirror() = default;

  virtual Task<Status> write(BlockDevice& store, std::uint64_t offset, ConstBytes from,
                             WriteFlags flags, MirrorVisit& visit) = 0;
  virtual Task<Status> write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                                    ZeroFlags flags, MirrorVisit& visit) = 0;
  virtual Task<Status> trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                            WriteFlags flags) = 0;
  virtual Task<Status> flush(BlockDevice& store) = 0;
};

}  // namespace blockmig

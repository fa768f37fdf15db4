// SPDX-License-Identifier: Apache-2.0
// DataAtRest: what mode `shared` leaves behind in a folder, and how it is reached afterwards.
//
// Lifecycle: hash() once; before each try of the switchover prepare(), under its fence publish();
// after the decision take_base() and complete(); without one withdraw(), unless the owner is
// unknown; discard() in the end. Implemented by whoever knows manifests (tools/), or by a
// simulation. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/chunk_digests.h"
#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/task.h"

namespace blockmig {

class DataAtRest {
 public:
  virtual ~DataAtRest() = default;
  /// Takes the digests of the chunks of `rest` from the disk's store, while the guest runs: what it
  /// writes meanwhile leaves `rest`. kCancelled.
  virtual Task<Status> hash(BlockDevice& store, const DirtyBitmap& rest, CancelSource& cancel) = 0;
  /// With the gate open: what is costly of publish(), for `rest` as it is now.
  virtual Task<Status> prepare(const DirtyBitmap& rest, const std::string& disk,
                               std::uint64_t epoch) = 0;
  /// Under the fence, before the decision: what is at rest is described durably, and can be read
  /// through take_base(). What has changed since prepare() is not, so of all that is not at rest
  /// this says nothing, and says so.
  virtual Task<Status> publish() = 0;
  /// Names what publish() makes durable: a restart asks for just that. After hash().
  virtual std::uint64_t generation() const = 0;
  /// What publish() has described, true of what is at rest; null before.
  virtual const ChunkDigests* digests() const = 0;
  /// Once, after the decision.
  virtual std::unique_ptr<BlockDevice> take_base() = 0;
  /// There was no decision, nor will there be one, and the disk is on its source: what publish()
  /// has said of it is taken back, durably.
  virtual Task<Status> withdraw() = 0;
  /// There was no decision, or nothing was taken.
  virtual Task<void> discard() = 0;
  /// After the decision, while nobody writes to the image: describes all of it. `image`: the store
  /// that the disk has left. `rest`: as it was under the fence.
  virtual Task<Status> complete(BlockDevice& image, const DirtyBitmap& rest) = 0;
};

}  // namespace blockmig

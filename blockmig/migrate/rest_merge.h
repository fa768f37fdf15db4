// SPDX-License-Identifier: Apache-2.0
// RestMerge: what is known of an image at rest while its disk goes back into it, and what others
// are told (mode `settle`).
//
// Lifecycle: look(), check(), begin(), all before the image is written to; finish() after the
// decision. Without a decision nothing has to be undone: the image stays the disk's base, at the
// generation that begin() has published. Implemented by whoever knows manifests (tools/), or by a
// simulation. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "blockmig/base/chunk_digests.h"
#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/disk/presence_map.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

class RestMerge {
 public:
  struct Facts {
    /// Of what the image held when it was left.
    std::shared_ptr<const ChunkDigests> digests;
    /// It was written to since, by an earlier try: only what is absent elsewhere is still as it was
    /// left.
    bool changing = false;
  };
  virtual ~RestMerge() = default;
  /// kPrecondition, kMismatch: the image is not the base that `rest` names.
  virtual Task<Result<Facts>> look(const HydrationRecord& rest) = 0;
  /// From now on nobody looks at digests any more when what is absent is read: is it as it was
  /// left? `image` is read for that where nothing quicker tells, or if `read_all`. kMismatch names
  /// the offset. True: nobody has written to the image at all since it was left.
  virtual Task<Result<bool>> check(BlockDevice& image, const PresenceMap& map, bool read_all,
                                   CancelSource& cancel) = 0;
  /// Durably: a new generation of the manifest, which says that the image is being changed. Others
  /// who use an older one are refused from now on.
  virtual Task<Status> begin() = 0;
  /// The image is the disk. `digests`: of it at the decision; null, or unknown chunks: not known.
  /// `untouched`: whether nobody has written to it since then.
  virtual Task<Status> finish(const ChunkDigests* digests, std::function<bool()> untouched) = 0;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// ExportLane: how the connections of one loop reach an export.
//
// On the export's own loop that is the export itself. On another loop the device is one that the
// export opened for it, and questions about bitmaps are asked on the export's loop.
//
// Lifecycle: made and destroyed on the export's loop, which the export outlives; used on the loop
// it was made for. Nothing is in flight when it is destroyed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "nbdserver/export.h"

namespace blockmig::nbd {

class ExportLane {
 public:
  using Runs = std::vector<DirtyBitmap::Run>;

  virtual ~ExportLane() = default;
  /// The export's.
  virtual const std::string& name() const = 0;
  virtual BlockDevice& device() = 0;
  /// kIo if there is no bitmap of that name (any more).
  virtual Task<Result<Runs>> bitmap_runs(const std::string& bitmap, ByteRange range,
                                         std::size_t max_runs) = 0;
  virtual Task<Result<Runs>> absent_runs(ByteRange range, std::size_t max_runs) = 0;
};

/// For connections on the export's own loop.
std::unique_ptr<ExportLane> make_home_lane(Export& disk);
/// For connections on `other`; null if the export cannot be reached from there.
std::unique_ptr<ExportLane> make_remote_lane(Export& disk, EventLoop& home, EventLoop& other);

}  // namespace blockmig::nbd

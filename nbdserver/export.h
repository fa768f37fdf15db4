// SPDX-License-Identifier: Apache-2.0
// Export: what an NBD client sees. The server knows disks only through these two classes.
// Thread rule: the server's home loop; what open_lane() has returned, the loop it was made for.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/store_identity.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class Export {
 public:
  virtual ~Export() = default;

  virtual const std::string& name() const = 0;
  /// For NBD_INFO_DESCRIPTION; may be empty.
  virtual const std::string& description() const = 0;
  virtual bool read_only() const = 0;
  /// Requests go here. The device's size and limits are constant while a client is attached.
  virtual BlockDevice& device() = 0;
  /// Names NAME of the bitmaps offered as qemu:dirty-bitmap:NAME.
  virtual std::vector<std::string> bitmap_names() const = 0;
  /// Null if there is none of that name (any more). Valid until the next suspension.
  virtual const DirtyBitmap* find_bitmap(std::string_view bitmap) const = 0;
  /// What blockmig:hydration says of [range): `dirty` runs are not here yet, they are fetched when
  /// they are asked for. Covers a prefix of the range without gaps. Everything is here by default.
  virtual std::vector<DirtyBitmap::Run> absent_runs(ByteRange range, std::size_t max_runs) const {
    (void)max_runs;
    return {{range, false}};
  }
  /// What this disk is, whatever it is called here (store_identity.h): its own identity, and those
  /// of the NBD stores it is kept on.
  virtual Identities identities() const { return {}; }
  /// The same device for the connections of another loop than the export's, which may share it;
  /// made and destroyed on the export's loop. Null: it cannot be reached from elsewhere, they must
  /// stay.
  virtual std::shared_ptr<BlockDevice> open_lane(EventLoop& other) {
    (void)other;
    return nullptr;
  }
};

class ExportDirectory {
 public:
  virtual ~ExportDirectory() = default;
  /// In the order LIST shows them.
  virtual std::vector<std::shared_ptr<Export>> list() = 0;
  /// Null if unknown. The empty name is the default export, where there is exactly one disk.
  virtual std::shared_ptr<Export> find(std::string_view name) = 0;
  /// find() may have it in a moment: it is on its way in.
  virtual bool is_late(std::string_view name) {
    (void)name;
    return false;
  }
};

}  // namespace blockmig

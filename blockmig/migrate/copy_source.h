// SPDX-License-Identifier: Apache-2.0
// CopySource: what a pass of the CopyEngine copies, where that is not simply what is dirty of the
// disk as it is now. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/task.h"

namespace blockmig {

class CopySource {
 public:
  virtual ~CopySource() = default;
  /// The chunks to copy; a failed copy marks them again.
  virtual DirtyBitmap& chunks() = 0;
  /// A chunk that should go before all others, if any.
  virtual std::optional<std::uint64_t> urgent() const = 0;
  virtual Task<Status> read(ByteRange range, MutableBytes into) = 0;
  /// The target has acknowledged these; they are claimed in the ledger until this returns.
  virtual void copied(const std::vector<std::uint32_t>& chunks) = 0;
};

}  // namespace blockmig

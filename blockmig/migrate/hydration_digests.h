// SPDX-License-Identifier: Apache-2.0
// HydrationDigests: the digests of a disk whose new store is being filled, so that the report of
// its job has the digest of the whole disk at the instant when that store was whole (I13).
//
// A chunk is hashed as it was copied before the switchover, or as it is pulled. The disk's tracking
// marks what the guest writes, before and after each write; that, and what nobody has hashed (after
// a restart: everything that is allocated), is hashed from the new store at the end, in passes
// while the guest goes on, and the last few chunks with its gate closed. Thread rule: the disk's
// loop.
#pragma once

#include <cstdint>
#include <memory>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/chunk_digests.h"
#include "blockmig/base/error.h"
#include "blockmig/disk/disk.h"
#include "blockmig/disk/presence_map.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class HydrationDigests final {
 public:
  /// So much is hashed with the gate closed whatever is known of the store's speed.
  static constexpr std::uint64_t kUnderFenceBytes = 256 * kKiB;

  /// Attached to the disk's tracking from here on; nothing is known.
  static Result<std::unique_ptr<HydrationDigests>> create(EventLoop& loop, Disk& disk);
  ~HydrationDigests();

  /// At the decision, with the gate closed: `known` is of the whole disk, but for what is absent;
  /// what it does not know has to be hashed.
  void begin_with(ChunkDigests known, const PresenceMap& map);
  /// The same where nothing is known and the guest is running: everything that is allocated in
  /// `local`, the new store. What becomes present later is told by pulled() and by the tracking.
  Task<void> begin_from(BlockDevice& local);
  /// A pull has put it there: `content`, or zeros where that is empty.
  void pulled(ByteRange range, ConstBytes content);

  std::uint64_t unknown_bytes() const { return unknown_->dirty_bytes(); }
  /// Hashes what is unknown, while the guest goes on; ends early when `stop` is set. An error: the
  /// store cannot be read, or holds something else than its size says.
  Task<Status> run_pass(Event& stop);
  /// With the gate closed and drained: hashes the rest, if that is expected to take at most
  /// `budget`. False: it would, or does, take longer, or it cannot be read.
  Task<bool> finish(Duration budget);
  /// From here on the disk's tracking is somebody else's.
  void detach();
  const ChunkDigests& digests() const { return digests_; }

 private:
  HydrationDigests(EventLoop& loop, Disk& disk, std::unique_ptr<DirtyBitmap> unknown);
  Task<Status> hash_run(std::uint64_t first, std::uint64_t& end);

  EventLoop& loop_;
  Disk& disk_;
  std::unique_ptr<DirtyBitmap> unknown_;
  ChunkDigests digests_;
  std::uint64_t bytes_per_second_ = 0;  ///< of the last pass that took measurable time
};

}  // namespace blockmig

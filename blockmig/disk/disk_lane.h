// SPDX-License-Identifier: Apache-2.0
// DiskLane: a disk for connections that live on another loop than the disk.
//
//   read, write ──▶ gate shard ▸ mark ▸ the store's read_now / write_now ▸ mark      on this thread
//        │  gate not open, a mirror, a throttle, FUA, not to be had at once
//        └────────▶ call_on(the disk's loop): Disk::read, Disk::write               on the disk's
//
// So what is in the page cache is served where the connection is, by several threads at once, and
// everything that needs order goes the disk's own way. What is served here never waits inside the
// gate, so closing it stays quick, and it is marked on both sides like any other write (I5). While
// a migration mirrors or throttles, all writes go to the disk's loop: one that had begun here
// before is marked again when it ends, in the bitmap of the job (I17).
//
// Lifecycle: made and destroyed on the disk's loop, used on its own; when it is destroyed nothing
// of it is in flight, and its disk still exists. Thread rule: as said; stats() any thread.
#pragma once

#include "blockmig/block/block_device.h"
#include "blockmig/disk/disk.h"
#include "blockmig/disk/heat_map.h"
#include "blockmig/disk/mark_shard.h"
#include "blockmig/disk/request_stats.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/gate.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {

class DiskLane final : public BlockDevice {
 public:
  /// `own` is the loop of the connections.
  DiskLane(Disk& disk, EventLoop& own);
  ~DiskLane() override;

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  Task<Status> prefetch(std::uint64_t offset, MutableBytes scratch) override;
  bool read_now(std::uint64_t offset, MutableBytes into) override;
  bool write_now(std::uint64_t offset, ConstBytes from) override;
  bool lend_now(std::uint64_t offset, std::size_t length,
                FunctionRef<bool(ConstBytes)> use) override;
  bool fill_now(std::uint64_t offset, std::size_t length,
                FunctionRef<std::size_t(MutableBytes)> fill) override;
  /// The disk is not the lane's to close.
  Task<Status> close() override;

  /// The disk's loop.
  EventLoop& home() { return home_; }
  EventLoop& own() { return own_; }
  /// Of what was served here; the rest is in the disk's.
  const RequestStats& stats() const { return stats_; }
  std::uint64_t take_longest_ns() { return stats_.take_longest_ns(); }

 private:
  Disk& disk_;
  EventLoop& home_;
  EventLoop& own_;
  const DeviceInfo info_;
  GateShard gate_;
  MarkShard marks_;
  RequestStats stats_;
  HeatSampler written_;
  HeatSampler read_;
  TaskScope calls_;  ///< used on the disk's loop only
};

}  // namespace blockmig

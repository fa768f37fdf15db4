// SPDX-License-Identifier: Apache-2.0
// Disk: the stable thing behind an export. Clients stay attached to it while the store below
// changes.
//
// One request: admitted by the gate ▸ marked in the bitmaps ▸ mirrored (while a migration asks for
// it) ▸ store. Every request passes the one gate of its disk, so a closed and drained gate means
// that nothing is under way, whichever connection it came by (I3, traps 1 and 2).
//
// The store changes only by swap_store() under a closed gate. Size and limits never change.
// Thread rule: the disk's loop. Connections on other loops come by a DiskLane.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/disk/guest_share.h"
#include "blockmig/disk/heat_map.h"
#include "blockmig/disk/request_stats.h"
#include "blockmig/disk/throttle.h"
#include "blockmig/disk/tracking.h"
#include "blockmig/disk/write_mirror.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/gate.h"

namespace blockmig {

class DiskLane;

class Disk final : public BlockDevice {
 public:
  /// `store_uri` and `epoch` as the journal has them.
  Disk(EventLoop& loop, std::string name, std::unique_ptr<BlockDevice> store, std::string store_uri,
       std::uint64_t epoch);
  ~Disk() override;

  const std::string& name() const { return name_; }
  const std::string& store_uri() const { return store_uri_; }
  std::uint64_t epoch() const { return epoch_; }

  // The guest's requests.
  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  Task<Status> prefetch(std::uint64_t offset, MutableBytes scratch) override;
  /// On the disk's loop only; from other threads use a DiskLane.
  bool read_now(std::uint64_t offset, MutableBytes into) override;
  bool write_now(std::uint64_t offset, ConstBytes from) override;
  bool lend_now(std::uint64_t offset, std::size_t length,
                FunctionRef<bool(ConstBytes)> use) override;
  ConstBytes borrow_now(std::uint64_t offset, std::size_t length) override;
  bool fill_now(std::uint64_t offset, std::size_t length,
                FunctionRef<std::size_t(MutableBytes)> fill) override;
  bool shares_loop() const override { return guest_share_.limited(); }
  TimePoint used_loop(TimePoint begun, TimePoint ended) override {
    return guest_share_.used(begun, ended);
  }
  /// Refuses new requests for ever, waits for those inside, and flushes the store: from then on the
  /// content and every bitmap stay as they are.
  Task<Status> stop();
  /// stop(), and closes the store.
  Task<Status> close() override;

  // What a migration uses.
  Gate& gate() { return gate_; }
  DirtyTracking& tracking() { return tracking_; }
  const DirtyTracking& tracking() const { return tracking_; }
  /// The store now: for the copier's reads, which need no gate. Stable until swap_store().
  BlockDevice& store() { return *store_; }
  /// From the next request on; null detaches. Requests that the mirror owns finish in it.
  void set_mirror(WriteMirror* mirror) { mirror_.store(mirror, std::memory_order_seq_cst); }
  TokenBucket& write_throttle() { return write_throttle_; }
  /// Of this loop: connections elsewhere (DiskLane) do not take it from a copier.
  GuestShare& guest_share() { return guest_share_; }
  /// Only while the gate is closed: the new store holds the same bytes. Returns the old one.
  std::unique_ptr<BlockDevice> swap_store(std::unique_ptr<BlockDevice> next, std::string uri,
                                          std::uint64_t epoch);

  /// Only while the gate is closed: `next` holds the same bytes at the same place, one layer more
  /// or less. Returns what was there.
  std::unique_ptr<BlockDevice> swap_layer(std::unique_ptr<BlockDevice> next);

  // What lanes use.
  EventLoop& loop() { return loop_; }
  /// `lane` and `marks` until remove_lane().
  void add_lane(DiskLane& lane, MarkShard& marks);
  void remove_lane(DiskLane& lane, MarkShard& marks);
  /// Nobody needs to see writes one by one, so they may be served on the spot. Any thread.
  bool writes_go_straight_through() const {
    return mirror_.load(std::memory_order_seq_cst) == nullptr && write_throttle_.unlimited();
  }

  /// A snapshot of all that was served, by lanes too.
  RequestStats stats() const;
  /// Of stats(), without copying it.
  std::uint64_t guest_bytes_written() const;
  /// The longest that one request took since the last call.
  Duration take_longest_latency();
  /// stats().latency() when the last move ended; empty: there was none.
  LatencyHistogram& latency_mark() { return latency_mark_; }

  /// Where the guest writes (zeroes included) and reads, lately; by lanes too.
  HeatMap& write_heat() { return write_heat_; }
  HeatMap& read_heat() { return read_heat_; }

 private:
  class Measured;

  EventLoop& loop_;
  std::string name_;
  std::unique_ptr<BlockDevice> store_;
  std::string store_uri_;
  LatencyHistogram latency_mark_;
  std::uint64_t epoch_;
  DeviceInfo info_;
  Gate gate_;
  DirtyTracking tracking_;
  std::atomic<WriteMirror*> mirror_ = nullptr;
  TokenBucket write_throttle_;
  GuestShare guest_share_;
  RequestStats stats_;  ///< of this loop, and of the lanes that are gone
  std::vector<DiskLane*> lanes_;
  HeatMap write_heat_;
  HeatMap read_heat_;
  HeatSampler written_;  ///< of this loop
  HeatSampler read_;
};

}  // namespace blockmig

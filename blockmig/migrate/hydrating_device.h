// SPDX-License-Identifier: Apache-2.0
// HydratingDevice: a disk's store after a post-copy switchover: the new store, and the base for
// what is absent in it.
//
//   read        present: the new store. Absent: pulled first; never zeros, never a guess
//   write       chunks covered whole become present without a fetch
//    ─ reverse mirror on: every write goes to both stores, in the same order where writes overlap;
//      a part of an absent chunk goes to the base only, which stays an exact copy of the disk
//    ─ off: a part of an absent chunk has the chunk fetched first; the base is only read
//   trim, write_zeroes   as writes of zeros; no fetch for whole chunks
//   flush       on: both stores. off: data, *then* presence (I12)
//
// With the reverse mirror a crash may lose what was noted as present since the last save: those
// chunks are pulled again from a base that has every acknowledged write. A base that fails or falls
// silent under a mirrored write ends the reverse mirror, once and for all; the guest goes on, also
// where the base alone would have taken the write: it is made as without the mirror. That end is
// durable before anything is acknowledged without the base; where the journal does not take it,
// changes fail. Then, and without the mirror, an acknowledged flush has made presence durable.
//
// Where the base does not deliver, requests that need it ask it again for `patience` and then fail
// with kIo; what is present goes on. Where the new store does not keep what is fetched, because it
// fails or is silent, readers get it from the base; the pull keeps its claim.
//
// Lifecycle: attach_base() before the first request; then close(), or release_local() when whole().
// Thread rule: one loop; the *_now() calls only while not shared between threads.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/migrate/chunk_puller.h"
#include "blockmig/migrate/hydration_core.h"
#include "blockmig/migrate/presence_keeper.h"

namespace blockmig {

class Disk;

class HydratingDevice final : public BlockDevice, public StoreHealth {
 public:
  struct Parts {
    EventLoop& loop;
    Journal& journal;
    HydrationRecord record;                ///< as the journal has it, or will have it
    std::unique_ptr<PresenceMap> map;      ///< likewise
    std::unique_ptr<BlockDevice> local;    ///< the new store
    std::unique_ptr<DirtyBitmap> written;  ///< chunks of it that may hold something; null: all
    std::uint64_t size_bytes = 0;          ///< of the disk
  };
  HydratingDevice(Parts parts, const HydrationOptions& options);
  ~HydratingDevice() override;

  void attach_base(std::unique_ptr<BlockDevice> base);

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  bool read_now(std::uint64_t offset, MutableBytes into) override;
  bool write_now(std::uint64_t offset, ConstBytes from) override;
  bool lend_now(std::uint64_t offset, std::size_t length,
                FunctionRef<bool(ConstBytes)> use) override;
  void prefer_latency(bool on) override { core_.local->prefer_latency(on); }
  void share_between_threads(bool on) override;
  /// close() does not wait for the base's answers any more either.
  void abandon() override;
  /// Saves what is present and closes both stores, when the base has answered all that it was sent:
  /// a write of ours that it does later would be another owner's loss (I9).
  Task<Status> close() override;

  // What hydration uses.
  const PresenceMap& map() const { return *core_.map; }
  const HydrationStats& stats() const { return core_.stats; }
  const HydrationRecord& record() const { return keeper_.record(); }
  bool whole() const { return core_.map->whole(); }
  /// Every acknowledged write is in the base too.
  bool mirrors_back() const { return reverse_; }
  /// The base is an image at rest: only read.
  bool at_rest() const { return record().base_generation != 0; }
  /// The new store; for who looks at what is there, not at what the disk reads as.
  BlockDevice& local() { return *core_.local; }
  /// As HydrationCore::on_pulled; empty: nobody wants to know any more.
  void set_on_pulled(std::function<void(ByteRange range, ConstBytes content)> tell) {
    core_.on_pulled = std::move(tell);
  }
  /// Starts to pull absent chunks at or after `cursor` in the background, at most `max_bytes`,
  /// and moves the cursor behind them. Bytes started; 0: no room, or nothing there.
  std::uint64_t push(std::uint64_t& cursor, std::uint64_t max_bytes);
  /// Requests of the guest wait for pulls: the background should leave them the stores.
  bool guest_waits() const { return readers_waiting_ > 0 || puller_.demanded_bytes() > 0; }
  /// It has been asked something, and has answered nothing for so long.
  bool base_is_silent(Duration patience) const { return core_.base && core_.base->stuck(patience); }
  unsigned pull_failures() const { return puller_.failures(); }
  /// Why nothing is pulled: what a store has said, or that the new one is silent. Else nothing.
  std::optional<Error> filling_fails() const;
  /// Makes durable what the base has from before; then its connection may be made anew.
  Task<void> settle_base();
  std::string trouble() const override;
  Identities identities() const override;
  /// Pulsed when a chunk became present or a pull ended.
  Event& changed() { return core_.changed; }
  /// Makes durable what is present now.
  Task<Status> save() { return keeper_.save(); }
  /// Whether a part of the range is present, but may not be so durably without a save().
  bool needs_save(ByteRange range) const { return keeper_.needs_save(range); }
  /// The disk does not live here any more: what is present is not recorded when it is closed.
  void retire() { retired_ = true; }
  /// The journal says that the new store alone is the disk: the base gets nothing any more.
  void leave_base() {
    left_ = true;
    reverse_ = base_only_unflushed_ = false;
  }
  bool base_left() const { return left_; }
  /// Requires whole(), a save() after that, and no request inside: the new store alone is the disk.
  std::unique_ptr<BlockDevice> release_local();

 private:
  /// One change: of data, or of zeros where `content` is null.
  struct Change {
    ByteRange range;
    const ConstBytes* content = nullptr;
    bool fua = false;
    bool no_hole = false;
    bool trim = false;
  };
  Task<Status> wait_present(ByteRange range);
  bool new_store_silent() const { return core_.silence.lasts() >= core_.options.keep_deadline; }
  bool not_kept(ByteRange range) const;
  Task<Status> read_through(ByteRange range, MutableBytes into);
  Task<void> absent_until(ByteRange range, TimePoint time);
  bool asks_again(TimePoint until) const {
    return !core_.stop.is_set() && core_.loop.now() < until;
  }
  Task<Status> change(Change change);
  Task<Status> change_held(const Change& change);
  /// Nothing where the base has failed what it alone would have had: the change is still to be
  /// made.
  Task<std::optional<Status>> change_both(const Change& change, ByteRange local_part);
  Task<Status> change_ends(const Change& change, ByteRange made, TimePoint deadline);
  Task<Status> change_local(const Change& change, TimePoint deadline);
  Task<Status> apply_local(const Change& change, ByteRange part, bool stays_present);
  ByteRange part_for_local(ByteRange range) const;
  std::shared_ptr<TargetOp> submit_to_base(const Change& change);
  enum class BaseNeed : unsigned char {
    kSpare,   ///< the new store has it as well
    kRemade,  ///< the base alone would have it; without the base it is made on the new store
    kOnly,    ///< nothing but the base can do it
  };
  std::shared_ptr<TargetOp> ask_base(std::uint64_t offset);
  Task<bool> wait_for_base(std::shared_ptr<TargetOp> op, BaseNeed need);
  void give_up_mirror(const std::string& why);
  /// Brings back a base whose connection was lost, where only what is durable there matters.
  void mend_base();
  Task<void> mend();
  bool may_mend() const { return !base_only_unflushed_ && !base_uncertain_; }
  /// By a change: what it made present needs no fetch.
  void filled(ByteRange part);
  Task<Status> flush_both();
  bool local_alone() const { return !reverse_ && remaking_ == 0 && keeper_.mirror_end_recorded(); }
  bool served_alone(std::uint64_t offset, std::uint64_t length) const {
    return !shared_ && core_.map->all_present({offset, length});
  }

  HydrationCore core_;
  PresenceKeeper keeper_;
  ChunkPuller puller_;
  DeviceInfo info_;
  bool reverse_;
  /// Changes that the base has failed and that are being made without it, in the order of
  /// `core_.order`: meanwhile every change goes through that.
  unsigned remaking_ = 0;
  bool shared_ = true;
  bool retired_ = false;
  bool left_ = false;
  /// The base alone has something acknowledged that was not flushed there: at first, what the guest
  /// wrote before the switchover, or a life before this one.
  bool base_only_unflushed_ = true;
  std::uint64_t base_only_count_ = 0;
  unsigned base_only_inside_ = 0;  ///< such writes under way
  /// One of them has failed, or was late: a server that has lost us may still do it (I2).
  bool base_uncertain_ = false;
  bool mending_ = false;
  TaskScope mender_;
  unsigned readers_waiting_ = 0;
  unsigned inside_ = 0;
};

/// The disk's store, where it is one; else null: the disk is whole.
HydratingDevice* hydrating_layer(Disk& disk);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// FaultDevice: a disk with everything that goes wrong with disks, under a seed.
//
// It keeps a *durable* image and a volatile write cache above it. Requests take simulated time
// (delays drawn from the seed; a bandwidth limit), may stall until told otherwise, fail, or do the
// wrong thing while reporting success. flush() and fua make the cache durable; crash() drops what
// is not: each cached write, and each write under way, survives whole, torn by sectors, or not at
// all, as drawn.
//
// A request takes effect at one instant between its arrival and its completion; the instant at
// which a write's buffer is read is drawn too, so that a buffer that changes in flight shows (trap
// 16). Thread rule: one loop.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/block/block_device.h"
#include "blockmig/block/memory_device.h"
#include "blockmig/block/store_health.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

/// Probabilities are per request, in parts per million.
struct FaultPlan {
  Duration min_delay{};
  Duration max_delay{};
  std::uint32_t slow_ppm = 0;  ///< requests that take `slow_delay` longer: others overtake them
  Duration slow_delay{};
  bool slow_writes_only = false;       ///< reads, flushes and questions are not slow
  Duration flush_delay{};              ///< that a flush takes longer
  std::uint64_t bytes_per_second = 0;  ///< 0 = unlimited; requests then queue behind each other
  std::uint32_t read_error_ppm = 0;    ///< EIO
  ByteRange bad;                       ///< reads that touch it: EIO
  std::uint32_t write_error_ppm = 0;   ///< EIO; a drawn part of the write may have happened
  std::uint32_t flush_error_ppm = 0;   ///< EIO; sticky, and the cache is lost
  std::uint32_t lost_write_ppm = 0;    ///< reports success, does nothing
  std::uint32_t torn_write_ppm = 0;    ///< reports success, writes only some sectors
  /// Reports success, writes elsewhere; until somebody reads the medium, or asks after a write what
  /// is there: nobody could find out later.
  std::uint32_t misdirected_write_ppm = 0;
  std::uint64_t space_bytes = UINT64_MAX;  ///< allocated bytes before ENOSPC
  std::size_t most_extents = SIZE_MAX;     ///< that one question is told of; at least one
};

class FaultDevice final : public BlockDevice, public StoreHealth {
 public:
  FaultDevice(EventLoop& loop, Random& random, std::string name, std::uint64_t size_bytes);
  ~FaultDevice() override;

  const DeviceInfo& info() const override;
  Task<Status> read(std::uint64_t offset, MutableBytes into) override;
  /// The durable image with the cache written to it: not what only reads still show.
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override;
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override;
  Task<Status> flush() override;
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override;
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override;
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override;
  /// What is under way fails at once with kDisconnected (a write among it may still have happened),
  /// later requests fail; also while stalled.
  void abandon() override;
  void withdraw() override { withdrawn_ = true; }
  Task<Status> close() override;

  FaultPlan& plan() { return plan_; }
  /// Requests that arrive or are under way wait until unstall(): a frozen store.
  void stall() { stalled_ = true; }
  void unstall();
  bool stalled() const { return stalled_; }
  /// Power loss and restart, as described above. What is under way fails with kDisconnected; the
  /// device then serves what survived, and an earlier flush failure is forgotten, as when opened
  /// again.
  void crash();
  /// The connection breaks, as when the server behind it dies: as crash(), and nothing answers
  /// until revive(), which works once reconnect() has been called.
  void disconnect();
  void reconnect() { reachable_ = true; }
  bool connected() const { return connected_; }
  /// Since it was opened: every further one fails.
  bool flush_failed() const { return flush_failed_; }
  std::optional<Error> lost() const override;
  Task<Status> revive() override;
  /// After abandon(): opened again, by a new owner.
  void reopen() {
    abandoned_ = withdrawn_ = false;
    connected_ = reachable_ = true;
  }
  /// Requests now inside.
  std::uint32_t in_flight() const { return static_cast<std::uint32_t>(requests_.size()); }
  std::uint64_t writes_done() const { return writes_done_; }

  /// What a reader sees now: cache over durable.
  void peek(std::uint64_t offset, MutableBytes into) const;
  /// What would be there after a power loss that loses the whole cache.
  void peek_durable(std::uint64_t offset, MutableBytes into) const;
  /// Puts content into both images, as if it had always been there.
  void preload(std::uint64_t offset, ConstBytes from);
  /// Makes both images hold `value` everywhere, allocated: a poisoned target (trap 9).
  void fill(std::byte value);
  DeviceInfo& mutable_info();

 private:
  /// A change that the visible image has, as data or as zeros, in order of effect.
  struct Change {
    std::uint64_t sequence = 0;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    std::vector<std::byte> data;  ///< empty: zeros
    bool deallocate = false;
    bool durable = false;  ///< already in the durable image (fua); kept for the order of a replay
  };
  /// A request under way. Linked for crash(), which decides what a write among them did.
  struct Request;
  enum class Fate { kGood, kError, kLost, kTorn, kMisdirected };

  enum class Image { kVisible, kMedium };
  Task<Status> read_from(Image image, std::uint64_t offset, MutableBytes into);
  void peek_at(Image image, std::uint64_t offset, MutableBytes into) const;
  Task<Status> take_time(const Request& request, std::uint64_t length, Duration more = {});
  Status finish_change(Change change, bool fua);
  Status reserve_space(const Change& change);
  Fate draw_write_fate();
  bool draw(std::uint32_t ppm) { return ppm != 0 && random_.below(1'000'000) < ppm; }
  void apply_to(MemoryDevice& image, const Change& change) const;
  std::vector<Change> draw_sectors(const Change& change);
  void commit(Change change, bool fua);
  void make_durable_until(std::uint64_t sequence);
  void survive_crash(const Change& change);
  Error disconnected(const char* reason) const;

  EventLoop& loop_;
  Random& random_;
  MemoryDevice durable_;
  MemoryDevice visible_;
  std::list<Change> cache_;
  std::uint64_t cache_bytes_ = 0;
  std::uint64_t next_sequence_ = 1;
  std::list<Request*> requests_;
  FaultPlan plan_;
  Event wake_;  ///< pulsed by unstall(), crash() and abandon()
  TimePoint busy_until_{};
  /// Grows with crash() and abandon(): requests of an older one fail.
  std::uint64_t generation_ = 0;
  std::uint64_t writes_done_ = 0;
  bool stalled_ = false;
  bool abandoned_ = false;
  bool withdrawn_ = false;
  bool flush_failed_ = false;
  bool connected_ = true;
  bool reachable_ = true;
};

}  // namespace blockmig

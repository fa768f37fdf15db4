// SPDX-License-Identifier: Apache-2.0
// BlockDevice: an array of bytes that tasks read and write.
//
// Stores: FileDevice, NbdDevice, MemoryDevice, FaultDevice, NullDevice (block/), SharedImage
// (sharedfs/). Layers over them: ReconnectingDevice, SharedDevice (block/), HydratingDevice,
// MergeTarget (migrate/), ClippedDevice (tools/daemon/). What clients see: Disk, DiskLane (disk/).
//
// Contract
//  - Offsets and lengths are bytes. The caller keeps [offset, offset+length) inside size_bytes and,
//    where info().min_io_bytes > 1, aligned to it; implementations BM_CHECK that, but for
//    alignment that a server asks for: kInvalid. Length 0 succeeds.
//  - Requests may overlap in time and complete in any order; overlapping *ranges* of concurrent
//    requests give unspecified interleaving, as on real disks. Order them above.
//  - Buffers are borrowed until the task finishes, also when it fails.
//  - A finished write is visible to later reads, durable only after a later flush() or with fua
//    (I1).
//  - flush() covers every write that finished before it was called. A failed flush is sticky (I11):
//    every later flush fails until the device is opened again.
//  - An error is never turned into success (I11). After a failed write the range's content is
//    unknown. Codes: kReadOnly and kNotSupported have changed nothing; kNoSpace; kDisconnected: the
//    store is lost or was abandoned; kShutdown: the disk ends; kIo: the medium, and all else.
//  - A task must run to its end: cancelling is the caller's race, not the device's. close() first
//    waits for nothing: the caller has drained.
// Thread rule: one loop; read_now(), write_now(), lend_now() and fill_now() from any thread, but
// not borrow_now().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/base/function_ref.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

/// Static facts about a device; constant while it is open.
struct DeviceInfo {
  std::string name;                ///< for messages: path or URI
  std::uint64_t size_bytes = 0;    ///< any number, odd ones too
  std::uint32_t min_io_bytes = 1;  ///< power of two: alignment of offset and length
  std::uint32_t preferred_io_bytes = 4096;
  std::uint32_t max_io_bytes = 32u << 20;
  bool read_only = false;
  bool can_trim = true;
  bool can_fast_zero = false;  ///< write_zeroes() with fast_only can succeed
  /// read_medium() comes from the medium: not from a cache of this host.
  bool reads_medium = false;
  /// A peer that may still do what it was sent by a process that has died (I9).
  bool remote = false;
  bool may_hang = false;          ///< a file of a network's filesystem, or of a process's
  bool zero_initialised = false;  ///< known to read as zeros everywhere (just created); see trap 9
};

struct WriteFlags {
  bool fua = false;  ///< durable before the task finishes
};

struct ZeroFlags {
  bool fua = false;
  bool no_hole = false;    ///< stays allocated
  bool fast_only = false;  ///< kNotSupported at once if it would be as slow as writing
};

/// A run of bytes with one allocation status (NBD base:allocation).
struct Extent {
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
  bool hole = false;  ///< not allocated
  bool zero = false;  ///< reads as zeros
  friend bool operator==(const Extent&, const Extent&) = default;
};

class BlockDevice {
 public:
  virtual ~BlockDevice() = default;

  virtual const DeviceInfo& info() const = 0;

  virtual Task<Status> read(std::uint64_t offset, MutableBytes into) = 0;
  virtual Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) = 0;
  virtual Task<Status> flush() = 0;
  /// A hint: the range's content becomes unspecified but stable. Unaligned parts may be left alone.
  virtual Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) = 0;
  /// The range reads as zeros afterwards. Any length up to the device's size.
  virtual Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length,
                                    ZeroFlags flags) = 0;
  /// Extents that cover a prefix of [offset, offset+length) without gaps, at least one, at most
  /// kMaxExtents; only the last may be cut at the end of the range. Asking never blocks the data
  /// path.
  virtual Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) = 0;
  /// As read(), of what is not expected to be read again soon: the device need not prepare for
  /// that.
  virtual Task<Status> read_once(std::uint64_t offset, MutableBytes into) {
    return read(offset, into);
  }
  /// Makes a later read of [offset, offset+scratch.size()) fast; what `scratch` then holds is
  /// nobody's business.
  virtual Task<Status> prefetch(std::uint64_t offset, MutableBytes scratch) {
    return read(offset, scratch);
  }
  /// As read(), past the caches of this host where the device has a way (info().reads_medium): what
  /// would be there if they were lost. Slower; for verifying.
  virtual Task<Status> read_medium(std::uint64_t offset, MutableBytes into) {
    return read(offset, into);
  }
  /// Serves the request on the spot if it needs no waiting, from *any* thread: true when done.
  /// False: nothing was done that matters (reads may have filled part of `into`); use read().
  /// Ranges stay linearizable per sector (I2) against everything else in flight on this device.
  virtual bool read_now(std::uint64_t offset, MutableBytes into) {
    (void)offset, (void)into;
    return false;
  }
  /// As read_now. False: nothing, or a part, was written and write() must do it whole; errors come
  /// out of write().
  virtual bool write_now(std::uint64_t offset, ConstBytes from) {
    (void)offset, (void)from;
    return false;
  }
  /// Shows the range's bytes where they are, to `use`, for the time of that call: what it copies
  /// from them is the range's content. From any thread. `use` must not touch them but by system
  /// calls and copy_guarded() (fault_guard.h), and says whether it took them. False: it did not, or
  /// was not called; use read().
  virtual bool lend_now(std::uint64_t offset, std::size_t length,
                        FunctionRef<bool(ConstBytes)> use) {
    (void)offset, (void)length, (void)use;
    return false;
  }
  /// The range's bytes where they are, to be copied from as above. They are the range's content
  /// until the caller gives control back to its loop, or has this device change the range. Empty:
  /// not to be had. On the loop's thread only.
  virtual ConstBytes borrow_now(std::uint64_t offset, std::size_t length) {
    (void)offset, (void)length;
    return {};
  }
  /// As lend_now(), for writing: what `fill` puts there is written, and nothing else changes. It
  /// puts whole sectors, from the beginning, and returns how many bytes that was.
  virtual bool fill_now(std::uint64_t offset, std::size_t length,
                        FunctionRef<std::size_t(MutableBytes)> fill) {
    (void)offset, (void)length, (void)fill;
    return false;
  }
  /// Whether clients share the device's loop with other work just now: who serves them there says
  /// how long that took, by used_loop(). On the loop's thread only.
  virtual bool shares_loop() const { return false; }
  /// Clients were served from `begun` to `ended`. Returns from when on they may be served again.
  virtual TimePoint used_loop(TimePoint begun, TimePoint ended) {
    (void)begun;
    return ended;
  }
  /// True: requests may be served on the spot, even where that can hold the loop for a moment (page
  /// cache). False: the loop is never held; for a migration's target. The default is what the
  /// device was opened with.
  virtual void prefer_latency(bool) {}
  /// False: until told otherwise, the *_now() calls come from the loop's thread only, and need no
  /// care for others. On the loop, while no such call is under way on another thread. The default
  /// is true.
  virtual void share_between_threads(bool) {}
  /// Cuts the device off at once: what is in flight fails with kDisconnected as soon as the medium
  /// allows (a network peer at once, a stuck local file when the kernel lets go), later requests
  /// fail. For a process that ends (I10): a network peer may do later what it has been sent.
  virtual void abandon() {}
  /// Later requests, and what has not been sent of those in flight, fail with kDisconnected; the
  /// rest ends when the medium has answered, and from then on nothing of it can come any more (I9).
  virtual void withdraw() { abandon(); }
  /// After kDisconnected or a failed flush, for whoever can write again all that was written since
  /// the last flush that succeeded: opens the medium anew and forgets the failure. None of that
  /// data may be believed to be there any more (I11). Requires that no request is inside. Fails as
  /// opening does, and kPrecondition if what is there now is of another size or kind.
  virtual Task<Status> revive() { co_return Status(); }
  /// Releases descriptors, connections and locks. Last call before destruction, also after
  /// abandon(); an NbdDevice must not be destroyed without it.
  virtual Task<Status> close() = 0;

  static constexpr std::size_t kMaxExtents = 4096;
};

/// What BlockDevice requires of a request's range; kInvalid or kNoSpace (writes) otherwise. For the
/// edges, where ranges come from a peer.
Status check_range(const DeviceInfo& info, std::uint64_t offset, std::uint64_t length,
                   bool is_write);

/// The same as an assertion: what every implementation does on entry.
void assert_range(const DeviceInfo& info, std::uint64_t offset, std::uint64_t length);

/// Appends `next` to `extents`, merged with the last one where they touch and have the same status.
void append_extent(std::vector<Extent>& extents, const Extent& next);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// ChunkPuller: brings absent chunks from the base into the new store.
//
// One pull: read the base, then claim the chunks, then write them, then call them present. A write
// that comes in between says overtaken(), and the pull reads again: so a pull never overwrites a
// newer write (I9, I12), and no write waits for the base. A chunk that is overtaken again and again
// is claimed before it is read. A chunk is in at most one pull. Bounded in bytes: pulls in the
// background by the window, demanded ones by twice of it.
//
// A base that fails is asked again, less and less often, until `patience` is over; a base that does
// not answer is waited for as long. A new store that refuses what was fetched is tried again with
// one chunk by the background, less and less often; for readers it is tried as they come. Zeros do
// not travel further: they become write_zeroes. The background does not read what the base calls
// zero: it asks for the base's extents ahead of itself, and fills runs of zeros in one piece, by
// the same rules. So a disk costs the time of its data, not of its size.
//
// Thread rule: the disk's loop. stop(), then join(), before destruction.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <set>

#include "blockmig/base/bytes.h"
#include "blockmig/base/error.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/buffer.h"
#include "blockmig/migrate/hydration_core.h"

namespace blockmig {

class ChunkPuller final {
 public:
  explicit ChunkPuller(HydrationCore& core) : core_(core) {}

  /// Starts pulls for what of `range` is absent and not being pulled, as far as there is room.
  /// Bytes of the pulls started.
  std::uint64_t want(ByteRange range, PullKind kind);
  enum class Zeros : unsigned char {
    kNone,      ///< not known to be zeros: want() it
    kUnderWay,  ///< the base is being asked, or zeros are being filled in; changed() follows
    kDone,      ///< that has happened on the spot
  };
  /// For the background: whether what is absent at the beginning of `ahead` is a run of zeros.
  Zeros push_zeros(ByteRange ahead);
  /// A write to the range is about to begin, with its range held.
  void overtaken(ByteRange range);
  /// Fills the chunks of `range` (whole chunks, all absent) in place, for a caller who holds them.
  /// kIo when the base does not deliver until the deadline.
  Task<Status> fill(ByteRange range, TimePoint deadline);
  /// The base's content of `range`, asked for once; kIo. Whoever needs the base asks again, or
  /// holds a pull that does: one failure of it is no error of the guest's.
  Task<Status> read_base(ByteRange range, std::shared_ptr<Buffer> into, TimePoint deadline);

  /// The new store has refused what the background fetched: one chunk is the next try.
  bool store_refuses() const { return store_refusals_ > 0; }
  /// What it has said to what was fetched last; nothing where it took that.
  std::optional<Error> refusal() const { return core_.cannot_keep ? refusal_ : std::nullopt; }
  /// And it is not its time yet, or that try is still under way.
  bool must_wait() const {
    const bool due = core_.loop.now() >= store_again_ && bytes_in_flight_ == demanded_bytes_;
    return store_refuses() && !due;
  }
  std::uint64_t bytes_in_flight() const { return bytes_in_flight_; }
  std::uint64_t demanded_bytes() const { return demanded_bytes_; }
  /// A pull of some of the range has its content for longer than the new store may take to keep it.
  bool slow_to_keep(ByteRange range) const;
  /// The base has refused a chunk of the range, which may be readable in part.
  bool refused(ByteRange range) const;
  /// Pulls that ended without filling anything, since the last one that did.
  unsigned failures() const { return failures_; }

  Task<void> join() { co_await scope_.join(); }

 private:
  struct Pull {
    ByteRange range;
    PullKind kind = PullKind::kPush;
    bool overtaken = false;
    bool refused = false;              ///< the base has answered with an error
    std::optional<TimePoint> fetched;  ///< and being stored since
  };
  const Pull* find(ByteRange range) const;
  bool has_room(PullKind kind, std::uint64_t bytes) const;
  void start(ByteRange range, PullKind kind);
  bool is_one_chunk(ByteRange range) const;
  void start_each(ByteRange range, PullKind kind);
  Task<void> run(std::shared_ptr<Pull> pull);
  Task<Status> pull_chunks(Pull& pull);
  Task<Status> wait_for_late_reads(TimePoint deadline);
  void leave_late(TargetOp& op);
  Task<Status> read_patiently(ByteRange range, std::shared_ptr<Buffer> into, TimePoint deadline);
  Task<Status> store(ByteRange range, std::shared_ptr<Buffer> content);
  void note_stored(PullKind kind, const Status& status);
  Task<Status> write_local(ByteRange range, ConstBytes content);
  Task<Status> read_back(ByteRange range, ConstBytes content);
  Task<void> run_zeros(std::shared_ptr<Pull> pull);
  Task<Status> pull_zeros(Pull& pull);
  ByteRange free_part(ByteRange range) const;
  Task<ByteRange> zeros_of_base(ByteRange range);
  Task<Status> zero_local(ByteRange range);

  HydrationCore& core_;
  TaskScope scope_;
  std::list<std::shared_ptr<Pull>> pulls_;
  std::uint64_t bytes_in_flight_ = 0;
  std::uint64_t demanded_bytes_ = 0;
  unsigned failures_ = 0;
  unsigned store_refusals_ = 0;  ///< of the background's tries, since anything was stored
  TimePoint store_again_{};
  std::optional<Error> refusal_;     ///< the first of those that the new store has not ended
  std::set<std::uint64_t> refused_;  ///< chunks, by offset, not all of them
  std::shared_ptr<Pull> zeros_;      ///< under way; claims nothing
  ByteRange no_zeros_;               ///< what the base was last asked about, in vain
};

}  // namespace blockmig

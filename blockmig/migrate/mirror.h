// SPDX-License-Identifier: Apache-2.0
// Mirror: makes the guest's writes reach the target, in order, without ever waiting long for it.
//
// Every write takes exactly one path (trap 13):
//
//   chunk dirty or being copied, or the target not to be
//   waited for ─────────────────────────────────────────▶ source only; chunk marked, copied later
//   chunk being copied for the third time, an overlapping
//   mirrored write under way, the mirror's window full,
//   or the copier waiting long for the target ──────────▶ wait, then decide again
//   chunk equal on both sides ──────────────────────────▶ both at once; acknowledged after both
//
// The deadline (options.mirror_deadline) is each write's own and strict: it counts from the write's
// arrival, over waiting for its turn and for the target's answer. Then the write is acknowledged
// from the source, its chunk is marked, and its range stays taken until the target has answered
// (I9, I10).
//
// Within the deadline the target sets the guest's pace; that is what makes the mirror converge. So
// little is wasted on a slow target: what is sent at once follows its answer time (CopyWindow), the
// rest waits its turn here in order of arrival, and a write whose turn comes too late to be
// answered in time is not sent at all. Where that does not suffice, pace() slows the writes into
// dirty chunks too, within the same deadline. A guest with more bytes outstanding than the target
// takes within the deadline cannot be paced this way; if most writes miss, they are tracked without
// waiting for a while (MirrorFallback). After four deadlines of silence none waits either, until
// the target answers again. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "blockmig/disk/write_mirror.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/copy_window.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/mirror_fallback.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/sync_state.h"

namespace blockmig {

struct MirrorStats {
  std::uint64_t bytes_mirrored = 0;
  std::uint64_t writes_mirrored = 0;
  std::uint64_t writes_tracked = 0;   ///< source only
  std::uint64_t deadline_misses = 0;  ///< of writes whose chunks were equal
  std::uint64_t target_errors = 0;
  Duration longest_wait{};  ///< that the mirror added to one write; never more than the deadline
};

class Mirror final : public WriteMirror {
 public:
  Mirror(EventLoop& loop, Replica& replica, SyncState& sync, const JobOptions& options);
  ~Mirror() override;

  Task<Status> write(BlockDevice& store, std::uint64_t offset, ConstBytes from,
                     WriteFlags flags) override;
  Task<Status> write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                            ZeroFlags flags) override;
  /// The source only, and marked: what a trimmed range reads as is the source's choice, so it is
  /// copied.
  Task<Status> trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                    WriteFlags flags) override;
  /// Both sides; the target's part at most the deadline. The switchover flushes the target in any
  /// case.
  Task<Status> flush(BlockDevice& store) override;

  /// Paces all the guest's writes to this many bytes per second, also those into dirty chunks,
  /// which otherwise do not wait: as far as each one's deadline allows. 0 = not.
  void pace(std::uint64_t bytes_per_second) { pace_ = bytes_per_second; }
  std::uint64_t paced_to() const { return pace_; }

  const MirrorStats& stats() const { return stats_; }
  /// Most writes missed the deadline: they are tracked without waiting, for a while.
  bool tracking_only() const { return fallback_.tracking(loop_.now()); }
  const MirrorFallback& fallback() const { return fallback_; }
  /// Waits until no request of the guest is inside: after detaching, before destruction.
  Task<void> wait_empty();

 private:
  struct Pair;
  class Inside;
  class Turn;
  struct Clocks {
    TimePoint arrived;
    TimePoint sent;  ///< when its turn had come
  };
  enum class Route { kMirror, kSourceOnly, kWait, kWaitForRoom };
  /// A write's range, cut where the route changes: large writes must not drag clean chunks along.
  struct Part {
    ByteRange range;
    Route route;
  };
  Route route(ByteRange range, std::uint64_t arrival) const;
  std::vector<Part> plan(ByteRange range, std::uint64_t arrival) const;
  Task<std::vector<Part>> settle_plan(ByteRange range, TimePoint arrived);
  Task<std::vector<Part>> take_turn(ByteRange range, TimePoint arrived);
  std::shared_ptr<Pair> submit(std::shared_ptr<TargetOp> op, ByteRange range);
  std::vector<std::shared_ptr<Pair>> submit_parts(const std::vector<Part>& parts, ByteRange whole,
                                                  const ConstBytes* content, bool fua);
  Task<Status> finish(std::vector<Part> parts, std::vector<std::shared_ptr<Pair>> pairs,
                      Status source_status, Clocks clocks);
  Task<void> await_target(std::shared_ptr<Pair> pair, TimePoint arrived);
  void note_wait(Duration waited);
  bool target_gone() const {
    return replica_.abandoned() || replica_.trouble() ||
           replica_.stuck(kSilencesOfHope * options_.mirror_deadline);
  }
  static constexpr int kSilencesOfHope = 4;
  void mark(ByteRange range) { sync_.dirty->mark(range.offset, range.length); }

  EventLoop& loop_;
  Replica& replica_;
  SyncState& sync_;
  const JobOptions& options_;
  MirrorStats stats_;
  CopyWindow window_;
  MirrorFallback fallback_;
  Duration typical_answer_{};  ///< of the target, moving average
  std::uint64_t in_flight_bytes_ = 0;
  std::uint64_t arrivals_ = 0;
  std::uint64_t pace_ = 0;
  TimePoint pace_free_at_{};                  ///< when the writes admitted so far are paid for
  std::set<std::uint64_t> waiting_for_room_;  ///< by arrival: the first has the next turn
  std::uint64_t inside_ = 0;
  Event left_;
};

}  // namespace blockmig

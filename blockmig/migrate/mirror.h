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
// little is wasted on a slow target: little is sent at once (TargetShare), the rest waits its turn
// here in order of arrival, and a write whose turn comes too late to be answered in time is not
// sent at all. As long as the target takes more than such writes leave to be copied again, even
// their waiting makes headway. Where that does not suffice, pace() slows the writes into dirty
// chunks too, within the same deadline. A guest with more bytes outstanding than the target takes
// within the deadline cannot be paced this way; if most writes miss, they are tracked without
// waiting for a while (MirrorFallback). After four deadlines of silence none waits either, until
// the target answers again.
//
// Before the switchover, approach() lets what is under way at the target become little, and from
// turn_away() on whoever still waits leaves through the gate, so that the fence waits for nobody's
// turn. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "blockmig/base/planted.h"
#include "blockmig/disk/write_mirror.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/mirror_fallback.h"
#include "blockmig/migrate/recent_rate.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/sync_state.h"
#include "blockmig/migrate/target_share.h"

namespace blockmig {

struct MirrorStats {
  std::uint64_t bytes_mirrored = 0;
  std::uint64_t writes_mirrored = 0;
  std::uint64_t writes_held = 0;      ///< that waited for their turn or their pace
  std::uint64_t deadline_misses = 0;  ///< of writes whose chunks were equal
  std::uint64_t writes_slow = 0;      ///< that it made wait longer than --max-guest-latency
  Duration longest_wait{};  ///< that the mirror added to one write; never more than the deadline
};

class Mirror final : public WriteMirror {
 public:
  Mirror(EventLoop& loop, Replica& replica, SyncState& sync, const JobOptions& options);
  ~Mirror() override;

  Task<Status> write(BlockDevice& store, std::uint64_t offset, ConstBytes from, WriteFlags flags,
                     MirrorVisit& visit) override;
  Task<Status> write_zeroes(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                            ZeroFlags flags, MirrorVisit& visit) override;
  /// The source only, and marked: what a trimmed range reads as is the source's choice, so it is
  /// copied.
  Task<Status> trim(BlockDevice& store, std::uint64_t offset, std::uint64_t length,
                    WriteFlags flags) override;
  /// Both sides; the target's part at most the deadline. The switchover flushes the target in any
  /// case.
  Task<Status> flush(BlockDevice& store) override;

  /// It is about to be attached, in the middle of a pass: until what the copier has sent by then,
  /// without a thought of a mirror, is nearly answered, writes are tracked and wait for nothing.
  void begin() { begun_ = false; }

  /// Paces all the guest's writes to this many bytes per second, also those into dirty chunks,
  /// which otherwise do not wait: as far as each one's deadline allows. 0 = not.
  void pace(std::uint64_t bytes_per_second) { pace_ = bytes_per_second; }

  /// Waits until no more is under way at the target than it takes within `drain`, and sends it no
  /// more than that from now on; false at the deadline. Ended by turn_away(false).
  Task<bool> approach(Duration drain, TimePoint deadline);
  /// Writes that wait for their turn, and those to come that would, are turned away (MirrorVisit).
  void turn_away(bool on);

  /// For the copier, which shares the target: may it send `length` more; that it did; that it waits
  /// to (`wake` is pulsed when it may have a turn; null: it does not wait).
  bool bulk_fits(std::uint64_t length) const { return share_.bulk_fits(length, target_now()); }
  void bulk_sent(std::uint64_t length);
  void bulk_waits(Event* wake);

  const MirrorStats& stats() const { return stats_; }
  /// Most writes missed the deadline: they are tracked without waiting, for a while.
  bool tracking_only() const { return fallback_.tracking(loop_.now()); }
  const MirrorFallback& fallback() const { return fallback_; }
  /// Waits until no request of the guest is inside: after detaching, before destruction.
  Task<void> wait_empty();

 private:
  struct Pair;
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
  void begin_if_calm();
  /// No write is sent, and none waits.
  bool only_tracks() const { return target_gone() || tracking_only() || !begun_; }
  Route route(ByteRange range, std::uint64_t arrival) const;
  std::vector<Part> plan(ByteRange range, std::uint64_t arrival) const;
  TargetShare::Target target_now() const;
  void turn_changed();
  bool has_room(std::uint64_t length) const;
  Task<std::vector<Part>> settle_plan(ByteRange range, TimePoint arrived);
  Task<std::vector<Part>> take_turn(ByteRange range, TimePoint arrived);
  bool leaving() const {
    // With that bug planted it would come in again at once, and again.
    return turning_away_.is_set() && !planted(PlantedBug::kWriteBypassesClosedGate);
  }
  Task<void> wait_unless_turned_away(TimePoint until);
  std::vector<Part> miss(std::vector<Part> parts);
  bool worth_waiting() const;
  std::shared_ptr<Pair> submit(std::shared_ptr<TargetOp> op, ByteRange range);
  std::vector<std::shared_ptr<Pair>> submit_parts(const std::vector<Part>& parts, ByteRange whole,
                                                  const ConstBytes* content, bool fua);
  Task<Status> finish(std::vector<Part> parts, std::vector<std::shared_ptr<Pair>> pairs,
                      Status source_status, Clocks clocks);
  Task<void> await_target(std::shared_ptr<Pair> pair, TimePoint arrived);
  void note_wait(Duration waited);
  void let_out(MirrorVisit& visit, TimePoint arrived);
  bool target_gone() const {
    return replica_.abandoned() || replica_.trouble() ||
           replica_.stuck(kSilencesOfHope * options_.mirror_deadline);
  }
  static constexpr int kSilencesOfHope = 4;
  /// With that bug planted there is a state in which a write is neither sent nor marked.
  bool forgets() const {
    return planted(PlantedBug::kNeitherSentNorMarked) && (target_gone() || tracking_only());
  }
  void mark(ByteRange range) { sync_.dirty->mark(range.offset, range.length); }

  EventLoop& loop_;
  Replica& replica_;
  SyncState& sync_;
  const JobOptions& options_;
  MirrorStats stats_;
  MirrorFallback fallback_;
  bool begun_ = true;          ///< what was sent before begin() is nearly answered
  Duration typical_answer_{};  ///< of the target, moving average
  std::uint64_t in_flight_bytes_ = 0;
  std::optional<std::uint64_t> most_in_flight_;  ///< since approach()
  RecentRate missed_;                            ///< bytes to copy again, of writes without a turn
  std::uint64_t arrivals_ = 0;
  std::uint64_t pace_ = 0;
  TimePoint pace_free_at_{};  ///< when the writes admitted so far are paid for
  /// Their bytes by arrival: the first has the next turn.
  std::map<std::uint64_t, std::uint64_t> waiting_for_room_;
  TargetShare share_;
  Event* bulk_wake_ = nullptr;
  Event turning_away_;
  std::uint64_t inside_ = 0;
  Event left_;
};

}  // namespace blockmig

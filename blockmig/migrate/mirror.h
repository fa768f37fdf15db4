// SPDX-License-Identifier: Apache-2.0
// Mirror: makes the guest's writes reach the target, in order, without ever waiting long for it.
//
// Every write takes exactly one path (trap 13):
//
//   chunk dirty or being copied, or the target stuck ──▶ source only; chunk marked, copied later
//   chunk being copied for the third time, an overlapping
//   mirrored write under way, the mirror's window full,
//   or the copier waiting long for the target ──────────▶ wait, then decide again
//   chunk equal on both sides ──────────────────────────▶ both at once; acknowledged after both
//
// The deadline (options.mirror_deadline) is about silence: when the target has answered nothing at
// all for that long, a write is acknowledged from the source, its chunk is marked, and its range
// stays taken until the target has answered (I9). After four deadlines of silence none waits any
// more until it answers again (I10). Giving up at the first silence would let a guest in full
// flight make everything dirty again within milliseconds, for a target that only paused.
//
// A target that answers, but slowly, slows the guest down to its own pace; that is what makes the
// mirror converge at any write rate. What is sent to it at once follows its answer time
// (CopyWindow), so that what was sent is answered within the deadline; the rest waits its turn
// here. Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "blockmig/disk/write_mirror.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/copy_window.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/sync_state.h"

namespace blockmig {

struct MirrorStats {
  std::uint64_t bytes_mirrored = 0;
  std::uint64_t writes_mirrored = 0;
  std::uint64_t writes_tracked = 0;  ///< source only
  std::uint64_t deadline_misses = 0;
  std::uint64_t target_errors = 0;
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

  const MirrorStats& stats() const { return stats_; }
  /// Waits until no request of the guest is inside: after detaching, before destruction.
  Task<void> wait_empty();

 private:
  struct Pair;
  class Inside;
  enum class Route { kMirror, kSourceOnly, kWait };
  /// A write's range, cut where the route changes: large writes must not drag clean chunks along.
  struct Part {
    ByteRange range;
    Route route;
  };
  Route route(ByteRange range) const;
  std::vector<Part> plan(ByteRange range) const;
  Task<std::vector<Part>> settle_plan(ByteRange range);
  std::shared_ptr<Pair> submit(std::shared_ptr<TargetOp> op, ByteRange range);
  std::vector<std::shared_ptr<Pair>> submit_parts(const std::vector<Part>& parts, ByteRange whole,
                                                  const ConstBytes* content, bool fua);
  Task<Status> finish(std::vector<Part> parts, std::vector<std::shared_ptr<Pair>> pairs,
                      Status source_status);
  Task<void> await_target(std::shared_ptr<Pair> pair);
  bool target_gone() const {
    return replica_.abandoned() || replica_.stuck(kSilencesOfHope * options_.mirror_deadline);
  }
  static constexpr int kSilencesOfHope = 4;
  void mark(ByteRange range) { sync_.dirty->mark(range.offset, range.length); }

  EventLoop& loop_;
  Replica& replica_;
  SyncState& sync_;
  const JobOptions& options_;
  MirrorStats stats_;
  CopyWindow window_;
  std::uint64_t in_flight_bytes_ = 0;
  std::uint64_t inside_ = 0;
  Event left_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// CopyEngine: copies dirty chunks from the disk's store to the replica, one pass at a time.
//
// A pass goes over the disk once, in the sweeps of its ChunkOrder. Runs of neighbouring dirty
// chunks become one request of at most copy_request_bytes; requests in flight are bounded in number
// and in bytes (TargetShare). For each run: lease (which clears the marks), then read the source,
// then write the target, then acknowledge; any failure marks again (I6). Zeros do not travel: on a
// target known to be zero they are skipped, elsewhere they become write_zeroes (trap 9). Where the
// source had holes it is asked again instead of read, and runs of holes are zeroed in large pieces
// (copy_holes.cc). Thread rule: the disk's loop. Await the end of every pass before destruction:
// join().
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/disk/disk.h"
#include "blockmig/disk/throttle.h"
#include "blockmig/io/cancel.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/bandwidth_pool.h"
#include "blockmig/migrate/chunk_order.h"
#include "blockmig/migrate/copier_need.h"
#include "blockmig/migrate/copy_source.h"
#include "blockmig/migrate/hole_step.h"
#include "blockmig/migrate/job_options.h"
#include "blockmig/migrate/mirror.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/sync_state.h"

namespace blockmig {

struct CopyStats {
  std::uint64_t bytes_leased = 0;   ///< taken for copying
  std::uint64_t bytes_copied = 0;   ///< acknowledged, zeros included
  std::uint64_t bytes_written = 0;  ///< travelled as data
  std::uint64_t bytes_zero = 0;     ///< did not travel
  std::uint64_t bytes_holes = 0;    ///< of these: not even read
};

class CopyEngine final {
 public:
  struct Parts {
    EventLoop& loop;
    Disk& disk;
    Replica& replica;
    SyncState& sync;
    const JobOptions& options;
    CancelSource& cancel;
    BandwidthShare& share;
  };
  explicit CopyEngine(const Parts& parts);

  /// One pass; returns when everything it started has ended. kCancelled; kTimedOut if the target
  /// does not answer within target_timeout; else what the source or the target said. With a
  /// `deadline` (the switchover's fence) it returns by then in any case: kTimedOut, with copies
  /// still under way and their chunks not clean.
  Task<Status> run_pass(std::optional<TimePoint> deadline);
  /// Between passes: copies the first chunk that a pass would, if there is one.
  Task<Status> copy_one();
  /// Ends the pass under way early, with success and chunks left dirty.
  void stop_pass() { stop_pass_ = true; }
  /// Waits for copies that a fence left under way.
  Task<void> join();

  /// While a mirror is attached (null: none is), the target is shared with it (TargetShare), and a
  /// chunk that the guest keeps writing is taken exclusively in its third round, so that it cannot
  /// starve the copy.
  void set_mirror(Mirror* mirror);

  /// The order of passes, but not of a fence's; outlives its use. Without one: ascending.
  void set_order(ChunkOrder* order) { order_ = order; }
  /// Passes copy what this says, instead of what is dirty of the disk; null ends that. Between
  /// passes.
  void set_source(CopySource* source) { source_ = source; }

  /// Copies in flight at most, from now on; at least 1, at most the options' depth.
  void set_depth(std::uint32_t depth) {
    depth_ = std::clamp(depth, 1u, options_.copy_depth);
    progress_.pulse();
  }
  /// Changes the copier's rate while it runs; 0 = unlimited.
  TokenBucket& rate_limit() { return rate_limit_; }
  void pause() { paused_ = true; }
  void resume();
  const CopyStats& stats() const { return stats_; }

 private:
  struct Run {
    DirtyLease lease;
    ByteRange range;
    bool holes = false;        ///< of the source, when it was looked at
    std::uint64_t memory = 0;  ///< bytes that it holds at most
  };
  bool pass_over(const std::optional<TimePoint>& deadline) const;
  bool has_room() const;
  std::uint32_t most_runs() const;
  bool share_fits() const;
  std::uint64_t window_bytes() const;
  Task<void> wait_for_room(std::optional<TimePoint> deadline);
  Task<void> wait_for_rate(std::optional<TimePoint> deadline, std::uint64_t& cursor);
  DirtyBitmap& chunks() { return source_ != nullptr ? source_->chunks() : *sync_.dirty; }
  bool in_sweep(std::uint64_t chunk) const;
  std::optional<std::uint64_t> next_in_sweep(std::uint64_t cursor);
  std::optional<std::uint64_t> next_in_pass(std::uint64_t& cursor);
  std::optional<Run> take_run(std::uint64_t& cursor);
  Run take_chunks(std::uint64_t first, std::uint64_t& cursor);
  /// Null: the chunk is no hole, or busy.
  std::optional<Run> take_holes(std::uint64_t first, std::uint64_t& cursor);
  void end_claims(const Run& run, const std::vector<std::uint32_t>& chunks);
  std::uint64_t run_bytes() const;
  Task<void> copy_run(Run run);
  Task<Status> copy_range(ByteRange range);
  /// What is still a hole is zeroed, the rest copied.
  Task<Status> copy_holes(ByteRange range);
  /// The whole chunks at the beginning of the range that read as zeros now.
  Task<std::uint64_t> zeros_of_source(ByteRange range);
  Task<Status> zero_target(ByteRange range);
  Task<Status> await_op(TargetOp& op);
  /// The digests of chunks tell whether a copy of this range changed on its way.
  bool judged_by_chunk(ByteRange range) const;
  Task<Status> read_source(ByteRange range, MutableBytes into);
  Task<Status> write_target(ByteRange range, std::shared_ptr<Buffer> content);
  void finish_run(Run& run, const Status& status);

  EventLoop& loop_;
  Disk& disk_;
  Replica& replica_;
  SyncState& sync_;
  const JobOptions& options_;
  CancelSource& cancel_;
  BandwidthShare& bandwidth_;
  std::uint32_t depth_;
  CopierNeed need_;
  HoleStep hole_step_;
  std::uint64_t in_flight_bytes_ = 0;
  Event progress_;  ///< pulsed when a run ended, on resume and on cancel
  TokenBucket rate_limit_;
  TaskScope runs_;
  Status failure_;
  CopyStats stats_;
  std::unordered_map<std::uint32_t, unsigned> rounds_;  ///< copies of a chunk that a write overtook
  ChunkOrder* order_ = nullptr;
  bool ordered_ = false;  ///< the pass that is on goes by the order
  CopySource* source_ = nullptr;
  Mirror* mirror_ = nullptr;
  bool paused_ = false;
  bool stop_pass_ = false;
  CancelSource::Callback on_cancel_;
};

}  // namespace blockmig

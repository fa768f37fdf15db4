// SPDX-License-Identifier: Apache-2.0
// ActivityLog: keeps recorded bitmaps true across a crash without a sync per write (I5).
//
// The disk is divided into coarse regions. At every moment, also after a crash:
//
//     recorded bitmap ∪ chunks of recorded active regions ⊇ bitmap in memory
//
//              activate(): one commit for all who wait
//       cold ────────────────────────────────────────────▶ active
//        ▲                                                 │    ▲
//        │                begin_retire(): no write touched │    │ a write before the
//        │                it since the last one            ▼    │ commit begins: free
//        └──────────────────────────────────────────────── leaving
//          commit(): the bitmaps' chunks and the new active set, at once
//
// A write into an active region costs a load; the first one into a cold region waits for a commit.
// Regions leave lazily: begin_retire(), then wait until no write that was admitted before is under
// way (DirtyTracking::quiesce), then look at the bitmaps and commit() them with the new active set.
// A region that a write touches in between stays active, whatever the bitmaps said about it.
//
// A commit that failed may have happened: then nothing leaves any more until a later commit has
// written every container again. If the journal keeps failing, its sets are distrusted
// (Journal::distrust_sets) and writes go on; only if that fails too, the write fails. From then on
// the log is abandoned: every region is active and stays so, and nothing is recorded.
//
// Thread rule: covers() on any thread; the rest on the disk's loop. Destroy when !in_use().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "bitmap/dirty_filter.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

class ActivityLog final {
 public:
  /// `region_bytes` a power of two; 0: default_region_bytes().
  ActivityLog(EventLoop& loop, Journal& journal, RegionSetId set, std::uint64_t size_bytes,
              std::uint64_t region_bytes);
  ~ActivityLog();
  ActivityLog(const ActivityLog&) = delete;
  ActivityLog& operator=(const ActivityLog&) = delete;

  /// 4 MiB, or more, up to 2 GiB, where a disk would have more than 65,536 regions.
  static std::uint64_t default_region_bytes(std::uint64_t size_bytes);

  const RegionSetId& set() const { return set_; }
  std::uint64_t region_bytes() const { return std::uint64_t{1} << shift_; }
  /// As the journal describes it.
  RegionSetRecord description() const;

  /// Before the first record is made: every region is active, which needs no record.
  void activate_all();
  /// What the journal holds, after a restart: those regions are active now. kProtocol as
  /// for_each_run().
  Status load(const std::vector<RegionContainer>& containers);

  /// True if a write to the range may go ahead. Notes that its regions are in use.
  bool covers(std::uint64_t offset, std::uint64_t length) {
    if (length == 0) return true;
    bool all = true;
    const std::uint64_t last = (offset + length - 1) >> shift_;
    for (std::uint64_t region = offset >> shift_; region <= last; ++region) {
      std::atomic<std::uint8_t>& state = states_[region];
      const std::uint8_t now = state.load(std::memory_order_seq_cst);
      all = all && (now & kActive) != 0;
      if ((now & kTouched) == 0) state.fetch_or(kTouched, std::memory_order_seq_cst);
    }
    return all;
  }
  /// Returns when the range was covered; it may not be so any more, so ask again. An error: the
  /// journal's; the write must not go ahead.
  Task<Status> activate(std::uint64_t offset, std::uint64_t length);

  /// Takes active regions that no write has touched since the last call out of use; with `all`,
  /// every region (no write is under way, nor admitted). They come back with cancel_retire(), or
  /// leave with commit(). Of an abandoned log nothing leaves.
  void begin_retire(bool all);
  void cancel_retire();
  /// Writes `batch`, and with it the active set without the regions that are still leaving. After
  /// an error they are neither recorded as cold nor usable without a new commit.
  Task<Status> commit(JournalBatch batch) { return write_batch(std::move(batch), true); }
  /// Writes `batch`, and the active set as it is: nothing leaves, so nothing need be waited for.
  Task<Status> record(JournalBatch batch) { return write_batch(std::move(batch), false); }
  /// The journal has failed and was told to forget: nothing of this is believed after a restart.
  bool abandoned() const { return abandoned_; }

  std::uint64_t active_regions() const;
  std::uint64_t region_count() const { return region_count_; }
  /// Somebody is inside activate() or commit().
  bool in_use() const { return users_ != 0; }
  /// Pulsed when a commit ended, and when nobody is in use of the log any more.
  Event& committed() { return committed_; }

 private:
  static constexpr std::uint8_t kActive = 1;
  static constexpr std::uint8_t kTouched = 2;

  /// Makes active what needs no commit; true if the whole range is active then.
  bool take_back(std::uint64_t first, std::uint64_t last);
  /// The journal has failed: makes it forget its sets, or says that it cannot.
  Task<Status> give_up();
  Task<Status> write_batch(JournalBatch batch, bool retire);
  /// One commit of `batch`, of the active set without `leaving_`, and of all that is wanted.
  Task<Status> write(JournalBatch& batch, bool retire);

  EventLoop& loop_;
  Journal& journal_;
  const RegionSetId set_;
  const std::uint64_t size_bytes_;
  const unsigned shift_;
  const std::uint64_t region_count_;
  const std::unique_ptr<std::atomic<std::uint8_t>[]> states_;
  DirtyFilter recorded_;    ///< what the journal holds, or more
  DirtyFilter leaving_;     ///< between begin_retire() and commit()
  DirtyFilter wanted_;      ///< by those who wait in activate()
  bool described_ = false;  ///< the set's record is there; before, nothing is believed
  bool rewrite_ = false;    ///< the last commit failed
  bool abandoned_ = false;  ///< the journal's sets are distrusted; everything is active
  bool committing_ = false;
  std::uint32_t users_ = 0;
  Event committed_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// BitmapKeeper: a disk's named bitmaps; those that are persistent are in the journal too.
//
//   open()    before the disk's first client: takes up what is recorded
//   add(), remove(), merge()
//   close()   when nothing is written any more: records the bitmaps exactly
//
// While there is a persistent bitmap, an ActivityLog keeps what is recorded true (I5):
//
//     recorded bitmap ∪ chunks of recorded active regions ⊇ bitmap in memory
//
// so that after a crash every active region is or-ed into every recording bitmap: no mark is
// missing, and the surplus is what was written to lately, in whole regions. A checkpoint per
// interval lets idle regions leave the log. Without a persistent bitmap there is no log, and
// writes cost nothing.
//
// What cannot be trusted any more is inconsistent (QEMU's word): shown, not used, only removed. So
// are bitmaps whose disk has another store or size than the records know, whose image was changed
// while the disk was not served (where it was closed in order; after a crash there is nothing to
// compare), and those that the journal had to forget (Journal::distrust_sets).
//
// Lifecycle: close() before destruction, once anything was added or opened. Thread rule: the disk's
// loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/disk/activity_log.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

/// How often a bitmap's idle regions leave the activity log, unless said otherwise.
inline constexpr Duration kBitmapCheckpointInterval = std::chrono::seconds(5);

/// kNotFound.
Error no_such_bitmap(const std::string& disk, const std::string& bitmap);

struct BitmapPlan {
  std::string name;
  std::uint32_t granularity_bytes = kDefaultGranularityBytes;
  bool persistent = true;
  bool recording = true;  ///< false: no write marks it; it is there to be merged into
  /// What tells its beginning from that of every other bitmap, also of one of the same name: the
  /// caller's, opaque here. Empty: unknown.
  std::string id{};
};

struct BitmapFacts {
  std::string name;
  std::uint32_t granularity_bytes = 0;
  bool persistent = false;
  bool recording = false;
  std::string inconsistent;             ///< why; empty if it can be trusted
  const DirtyBitmap* bitmap = nullptr;  ///< null if it is inconsistent
  std::string id{};                     ///< of the plan
};

class BitmapKeeper final {
 public:
  /// `region_bytes` of the activity log: 0: ActivityLog::default_region_bytes().
  BitmapKeeper(EventLoop& loop, Journal& journal, Disk& disk, Duration interval,
               std::uint64_t region_bytes = 0);
  ~BitmapKeeper();
  BitmapKeeper(const BitmapKeeper&) = delete;
  BitmapKeeper& operator=(const BitmapKeeper&) = delete;

  /// Nobody writes to the disk yet. `identity`: what tells the store's content from what it was at
  /// close(), empty if nothing does. `same_store` false: the disk is given other content,
  /// or, read-only, may have been.
  /// After an error nothing is believed of what was taken up, and close() records nothing.
  Task<Status> open(bool same_store, std::string identity);
  /// When it returns, every write acknowledged from now on marks it (if it records), and what was
  /// acknowledged before is durable. kBusy: there is one of that name.
  Task<Status> add(BitmapPlan plan);
  /// One that is not persistent, with the marks that it has already.
  Status add_now(BitmapPlan plan, std::unique_ptr<DirtyBitmap> bitmap);
  /// kNotFound: none of that name.
  Task<Status> remove(std::string name);
  /// Ors the sources into the target; a chunk of it that a source's chunk overlaps is marked, so
  /// marks grow to the coarser granularity. kNotFound, kPrecondition: inconsistent. After another
  /// error the marks are there, and not durable.
  Task<Status> merge(std::string target, std::vector<std::string> sources);
  /// The disk is stopped. Records every persistent bitmap as it is, and `identity`.
  Task<Status> close(std::string identity);

  std::vector<BitmapFacts> bitmaps() const;
  /// As if the daemon died: nothing more is recorded.
  Task<void> abandon();

 private:
  struct Kept {
    BitmapPlan plan;
    std::string inconsistent;
    /// What the journal holds; null: nothing, or unknown.
    std::unique_ptr<DirtyFilter> recorded;
  };
  struct Found {
    std::vector<RegionSetRecord> sets;
    bool has_active = false;
    RegionSetRecord active;
    bool closed_in_order = false;
    std::string identity;
  };

  Kept* look_up(const std::string& name);
  bool any_persistent() const;
  /// The journal is known to hold what is in memory, but for active regions.
  bool all_recorded() const;
  Task<Result<Found>> find_records();
  Task<Status> take_up(const RegionSetRecord& set, const std::vector<RegionContainer>& active);
  Task<Status> open_records(Found found, std::string why_not);
  std::string why_not_trusted(const Found& found, bool same_store,
                              const std::string& identity) const;
  RegionSetRecord record_of(const Kept& kept) const;
  void forget_kept(const std::string& name);
  /// Waits for its turn. One look at the bitmaps and one commit at a time.
  Task<void> take_turn();
  void end_turn();
  Task<Status> write_down(JournalBatch batch, bool retire);
  void arm();
  void start_checkpoints();
  Task<void> run_checkpoints();
  Task<void> checkpoint();
  Task<void> disarm();

  EventLoop& loop_;
  Journal& journal_;
  Disk& disk_;
  const Duration interval_;
  const std::uint64_t region_bytes_;
  std::vector<std::unique_ptr<Kept>> kept_;
  /// Not kept, and perhaps in the journal: it must not come back without its marks.
  std::vector<RegionSetId> leftovers_;
  std::unique_ptr<ActivityLog> log_;  ///< while there is a persistent bitmap
  TaskScope scope_;
  Event wake_;     ///< set: a checkpoint is wanted now
  Event changed_;  ///< pulsed when a turn ends
  bool in_turn_ = false;
  bool running_ = false;   ///< run_checkpoints()
  bool stopping_ = false;  ///< close() or abandon() has begun
  bool failed_ = false;    ///< open() has
};

/// What removes everything that is recorded of a disk's bitmaps.
Task<Result<JournalBatch>> removal_of_bitmaps(Journal& journal, std::string disk);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// JobCheckpoint: what a job has recorded of its progress, so that a restart copies only the
// difference (I5, I7).
//
//   recall()     of a recovered job: the digests that are recorded
//   arm()        with the job's bitmap attached: every region active, nothing recorded; writes cost
//                nothing, and a crash means to begin anew
//   run_once()   regions that no write touched leave the activity log:
//                  take them out of use ▸ wait for the writes in them ▸ look which chunks are equal
//                  ▸ flush source and target ▸ record the rest as dirty, the regions as cold,
//                  in one
//                A chunk is recorded as clean only if it was equal before the flushes: after a
//                power loss it is the same on both sides, whatever their caches held.
//                Nothing any more once the journal has failed: the log stays as it is, and a write
//                into a region that has left makes the records void (ActivityLog)
//                With them the digests of what is clean (digest_record.h)
//   hold()       no checkpoint runs until release(): for a switchover
//   detach()     before the bitmap goes: makes the record void. Where it shall stay, for a restart,
//                or cannot be made void, the log stays on the disk too
//
// The records of an ended job are removed with its last state (records_of()). A recorded job is
// found again by recover(), before the disk's first client. Thread rule: the disk's loop.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/disk/activity_log.h"
#include "blockmig/disk/disk.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/digest_record.h"

namespace blockmig {

struct Migration;

/// What a crash left of a job's tracking, attached to its disk again. Destroy after discard() or
/// hand to the job.
struct RecoveredTracking {
  std::unique_ptr<DirtyBitmap> dirty;  ///< null where only the record is kept true
  std::unique_ptr<ActivityLog> log;
  std::unique_ptr<DirtyFilter> recorded;  ///< chunks that the journal has as dirty; as `dirty`
  std::string target_identity;            ///< TargetOpener::identity() of what was written
  bool empty() const { return log == nullptr; }
};

class JobCheckpoint final {
 public:
  JobCheckpoint(Migration& migration, RecoveredTracking recovered);
  ~JobCheckpoint();

  void arm();
  /// Before anything is copied, after what the job's digests do not know was marked in them. Never
  /// fails: what cannot be read is hashed again.
  Task<void> recall();
  Task<Status> run_once();
  Task<void> hold();
  void release();
  /// What is left on the disk, for discard() once nobody writes to it; empty: nothing is.
  Task<RecoveredTracking> detach(bool keep_record);

  std::uint64_t checkpoints() const { return checkpoints_; }
  std::uint64_t active_regions() const { return armed_ ? log_->active_regions() : 0; }

 private:
  Task<Status> settle();
  Task<Status> checkpoint();
  void add_different(std::uint32_t first, std::uint32_t end, DirtyFilter& now) const;
  RegionSetRecord record() const;
  Task<void> add_marks(JournalBatch& batch, const DirtyFilter& now);

  Migration& migration_;
  std::unique_ptr<ActivityLog> log_;
  std::unique_ptr<DirtyFilter> recorded_;  ///< what the journal holds; null: nothing, or unknown
  std::unique_ptr<DigestRecord> digests_;  ///< null: none are recorded
  bool anew_ = false;                      ///< what the journal holds is not gone on with
  std::uint64_t checkpoints_ = 0;
  bool running_ = false;
  bool held_ = false;
  bool armed_ = false;
  Event changed_;
};

/// The region sets of a job: its bitmap's and its activity log's.
std::vector<RegionSetId> records_of(const std::string& disk, const std::string& job);

/// Attaches what is recorded of the job to its disk, which nobody writes to yet. Empty: nothing is
/// recorded, or it is of another epoch, size or granularity.
Task<Result<RecoveredTracking>> recover(Journal& journal, Disk& disk, std::string job,
                                        EventLoop& loop);
/// Makes the job's record void. Before its tracking is taken off: a write that nothing tracks must
/// not meet a record that is still believed (I5). So after an error the tracking stays.
Task<Status> forget(Journal& journal, std::string disk, std::string job);
/// Takes this tracking off, after forget() or when nobody writes to the disk any more. Never that
/// of another job, which may have begun meanwhile.
Task<void> discard(Disk& disk, RecoveredTracking tracking);

}  // namespace blockmig

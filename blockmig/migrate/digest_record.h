// SPDX-License-Identifier: Apache-2.0
// DigestRecord: the digests of a job's chunks as the journal keeps them beside its bitmap, so that
// a restart knows what it believes to be equal (I13) and need not read it again.
//
// A digest counts only where the record of the same instant says that the chunk is clean and its
// region cold. It is taken after the marks of its checkpoint, never before: a chunk that was clean
// then and has been written since is in a region that stays active, so what is taken of a chunk
// that counts is of the content that both sides have. What was recorded of a chunk that is dirty
// may be old: it becomes clean only by being copied, which changes its digest here, and so its
// container is written with the record that first says that it is clean, or erased by it.
//
// A container is 4 KiB for 16 MiB of the disk: 256 MiB for each TiB that is not zeros. A checkpoint
// writes those that changed, 1,024 at most (4 MiB); what is behind waits for the next one, and what
// is recorded of it is erased meanwhile. Thread rule: the disk's loop.
#pragma once

#include <cstdint>

#include "bitmap/dirty_bitmap.h"
#include "bitmap/dirty_filter.h"
#include "blockmig/base/chunk_digests.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/job_options.h"

namespace blockmig {

/// What the job's digests do not know is unknown in them: so they can be recorded, and compared
/// with. Elsewhere chunks that the job need not look at pass for zeros.
bool knows_all_digests(const JobOptions& options);

class DigestRecord final {
 public:
  /// `digests` outlives it. Nothing is recorded yet.
  DigestRecord(RegionSetId set, ChunkDigests& digests);

  /// What an earlier life has recorded is known from here on, but for what is dirty now: before
  /// anything is copied, with every write since the restart marked. An error: what came before it
  /// is known all the same; the rest has to be recorded anew.
  Task<Status> recall(EventLoop& loop, Journal& journal, const DirtyBitmap& dirty);
  /// Adds what has changed. The batch is committed, or begin_anew() is next.
  Task<void> add_change(EventLoop& loop, JournalBatch& batch);
  /// The journal holds no digests of this set, or the batch that is being made removes them.
  void begin_anew();

  /// Containers that wait for the next checkpoint.
  std::uint64_t waiting() const { return waiting_.count(); }

 private:
  void know(const DigestContainer& container, const DirtyBitmap& dirty);
  DigestContainer container_of(std::uint64_t group) const;

  const RegionSetId set_;
  ChunkDigests& digests_;
  DirtyFilter recorded_;    ///< groups that the journal has, as they are here unless they wait
  DirtyFilter waiting_;     ///< groups that have changed since
  std::uint64_t next_ = 0;  ///< where the last change ended: none waits for ever
};

}  // namespace blockmig

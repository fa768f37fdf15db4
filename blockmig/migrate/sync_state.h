// SPDX-License-Identifier: Apache-2.0
// SyncState: all that a job knows about how its target differs from its source.
//
// `dirty` is the truth that the switchover rests on (I5): a chunk that is not in it, has no write
// in flight and no work in the ledger, is equal on both sides. Thread rule: the disk's loop.
#pragma once

#include <memory>
#include <optional>

#include "bitmap/dirty_bitmap.h"
#include "blockmig/base/chunk_digests.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/migrate/chunk_ledger.h"

namespace blockmig {

struct SyncState {
  SyncState(EventLoop& loop, std::unique_ptr<DirtyBitmap> dirty_chunks,
            std::unique_ptr<DirtyBitmap> written_chunks, bool with_digests)
      : dirty(std::move(dirty_chunks)),
        written(std::move(written_chunks)),
        ledger(loop, dirty->granularity_bytes()) {
    if (with_digests) digests.emplace(dirty->size_bytes());
  }

  std::unique_ptr<DirtyBitmap> dirty;    ///< chunks to copy
  std::unique_ptr<DirtyBitmap> written;  ///< chunks that may be non-zero at the target (trap 9)
  /// Chunks not read back yet; null unless Verify::kFull, or late requests of an earlier life.
  std::unique_ptr<DirtyBitmap> unverified;
  /// Mode `shared`: chunks that stay where they are, unless they are copied after all. Null
  /// elsewhere.
  std::unique_ptr<DirtyBitmap> rest;
  /// Chunks that were holes of the source when it was looked at: a hint to ask again before they
  /// are read. Null: none, or the target is known to be zero.
  std::unique_ptr<DirtyBitmap> holes;
  ChunkLedger ledger;
  /// Of what was read or written at the source and sent to the target, found unchanged when the
  /// target had answered; absent where verification is off.
  std::optional<ChunkDigests> digests;
  /// Chunks that verification found to differ, of a request the first.
  std::uint64_t mismatches = 0;
  /// A mirrored write that had changed by then: no switchover.
  std::optional<Error> corruption;
};

}  // namespace blockmig

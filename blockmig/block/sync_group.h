// SPDX-License-Identifier: Apache-2.0
// SyncGroup: flushes share the syncs of their medium, which run one at a time.
//
//   flush 1 ──▶ sync 1 begins ────────────▶ ends: 1 is answered
//   flush 2 ──────── waits ──────────────▶ sync 2 begins ──────▶ ends: 2 and 3 are answered
//   flush 3 ──────────── waits ──────────▶ (joins sync 2)
//
// One at a time, because the kernel reports a write-back error once per open file (errseq_t): of
// two that overlap one is told of it, and the success of the other means nothing (I11). Nobody
// joins a sync that has begun: it need not cover what was written since (I1). A sync that fails
// fails those who share it and all that come after, until the error is forgotten.
//
// What is synced must be synced by nobody else. Lifecycle: nobody waits when it is destroyed.
// Thread rule: one loop.
#pragma once

#include <cstdint>
#include <functional>

#include "blockmig/block/sticky_error.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task.h"

namespace blockmig {

class SyncGroup final {
 public:
  using Sync = std::function<Task<Status>()>;

  /// `sync` makes durable all that was written before it was called. `error` is where its failure
  /// is kept; those that others note there fail flushes too.
  SyncGroup(EventLoop& loop, StickyError& error, Sync sync);

  /// Covers every write that finished before it was called. Fails with the sticky error.
  Task<Status> flush();

 private:
  Task<void> run_next();

  StickyError& error_;
  Sync sync_;
  std::uint64_t begun_ = 0;  ///< syncs
  std::uint64_t ended_ = 0;  ///< begun_, or one less: one is running
  Event changed_;            ///< pulsed when one has ended
};

}  // namespace blockmig

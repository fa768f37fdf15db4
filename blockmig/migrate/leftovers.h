// SPDX-License-Identifier: Apache-2.0
// What jobs leave when they end: stores that somebody has to keep until their devices let go. No
// end of a job waits for one.
//
// Thread rule: one loop. Errors: of closing are dropped, as nobody's data is there any more.
#pragma once

#include <memory>

#include "blockmig/block/block_device.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/replica.h"
#include "blockmig/migrate/target_opener.h"
#include "blockmig/migrate/unanswered.h"

namespace blockmig {

/// The tasks below, and which targets they wait for. Outlives the jobs.
struct JobLeftovers {
  explicit JobLeftovers(EventLoop& loop) : unanswered(loop) {}
  Unanswered unanswered;
  TaskScope tasks;
};

/// Owns an abandoned target until its device lets go; `entry` says so. What was made for it goes
/// while the device has it: from its close() on it may be the next move's (I9).
Task<void> let_go(std::unique_ptr<Replica> replica, std::shared_ptr<TargetOpener> opener,
                  std::unique_ptr<Unanswered::Entry> entry);

/// A target that stays as it is: a finished copy, flushed already, or one that a restart goes on
/// with from what is recorded.
Task<void> close_copy(std::unique_ptr<Replica> replica, std::unique_ptr<Unanswered::Entry> entry);

/// The store that the disk has left, or the layer with which it fetched from there: its server may
/// still have a mirrored write to do.
Task<void> close_old_store(std::unique_ptr<BlockDevice> store,
                           std::unique_ptr<Unanswered::Entry> entry);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// A switchover before everything is copied: `postcopy` and `hybrid`.
//
// What is dirty at the fence is what differs (I5): exactly those chunks become absent, and are
// pulled from the old store afterwards. The journal has them, with the record of where they are,
// before the decision; the decision names both (I7). Most of it is written before the fence.
// Thread rule: the disk's loop.
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

/// Decides that the next switchover leaves the rest behind.
void begin_pivot(Migration& migration);
/// What it leaves is fetched by this job. What is at rest, and stays there, is no job's.
bool fetches_rest(const Migration& migration);
/// With the gate open: the record, and the chunks that are dirty now.
Task<Status> keep_rest(Migration& migration);
/// With the gate open: whether the target takes a write at all, before it is decided that the disk
/// lives there. A chunk that stays absent gets what the source has in it. Nothing where there is no
/// such chunk, or the target has taken one before.
Task<Status> write_one_absent(Migration& migration);
/// Under the fence: the chunks that are dirty, exactly. False: the copier is still at work.
Task<Result<bool>> keep_rest_under_fence(Migration& migration);
/// Under the fence, after the decision.
void swap_to_hydrating(Migration& migration, std::unique_ptr<BlockDevice> target);
/// Removes what a pivot without a decision has left in the journal. It means nothing; nobody waits
/// for it to work.
Task<void> forget_rest(Journal& journal, HydrationRecord record);
/// There was no decision, and will be none: that, and the same of what is at rest.
Task<void> withdraw_pivot(Migration& migration);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// The steps before the first byte is copied. Thread rule: the disk's loop.
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/target_opener.h"

namespace blockmig {

/// Opens the target. Aborting does not wait for it: kCancelled at once, and whatever the opening
/// still brings is closed by a task in `leftovers`.
Task<Result<std::unique_ptr<BlockDevice>>> open_target(Migration& migration,
                                                       std::shared_ptr<TargetOpener> opener,
                                                       TaskScope& leftovers);

/// kReadOnly; kPrecondition: too small or too coarse. Names both sides.
Status check_fits(const DeviceInfo& source, const DeviceInfo& target);

/// kPrecondition: the chunks that are read and written are smaller than the blocks that a store
/// takes. Names it, and the granularity that would do.
Status check_chunks(const DeviceInfo& store, std::uint32_t granularity_bytes);

/// Of the opened target, before anything is written to it: what is recorded about another one, or
/// about this one before somebody changed it, is made void (I5). kPrecondition: a disk cannot
/// return to what was changed.
Task<Status> compare_target(Migration& migration);

/// Makes replica, sync state and engine; arms the tracking, *then* scans the allocation (I17): a
/// write that the scan does not see is marked. After it, every chunk that differs is dirty (I5).
Task<Status> arm_and_scan(Migration& migration, std::unique_ptr<BlockDevice> target);

}  // namespace blockmig

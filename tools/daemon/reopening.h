// SPDX-License-Identifier: Apache-2.0
// Whether another daemon could open what this one has open. Asked before this one closes anything
// for a successor: what neither of them can open again is lost to its clients.
#pragma once

#include <memory>
#include <vector>

#include "blockmig/io/io_loop.h"
#include "blockmig/io/task_scope.h"
#include "tools/daemon/served_disk.h"

namespace blockmig {

/// Every store answers a flush, and is where its name says, within `patience`. The first that is
/// not so, by its disk: kTimedOut, kPrecondition, kNotFound, or the store's own error. What has not
/// been answered stays in `asking`. Thread rule: the loop.
Task<Status> check_reopening(IoLoop& loop, TaskScope& asking,
                             std::vector<std::shared_ptr<ServedDisk>> disks, Duration patience);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Reading the target back and comparing it with the source: `--verify full` (I13).
//
// Two steps. read_back() compares while the guest runs; a difference there can be a write in
// flight, so the chunk just stays unverified. read_back_under_fence() compares the rest with the
// gate closed, where nothing is in flight: a difference there is real.
#pragma once

#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

/// Errors: reading either side; kCancelled.
Task<Status> read_back(Migration& migration);

/// True: everything is verified. False: `deadline` came first. kMismatch names the first differing
/// offset.
Task<Result<bool>> read_back_under_fence(Migration& migration, TimePoint deadline);

}  // namespace blockmig

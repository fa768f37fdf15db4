// SPDX-License-Identifier: Apache-2.0
// Reading the target back and comparing it with the source: `--verify full` (I13).
//
// What is read comes from the target's medium, past the page cache, where the device can do that
// (BlockDevice::read_medium); an NBD server answers from where it likes. Several requests of the
// copier's size are under way at a time.
//
// Two steps. read_back() compares while the guest runs; a difference there can be a write in
// flight, so the chunk just stays unverified. read_back_under_fence() compares the rest with the
// gate closed, where nothing is in flight: a difference there is real. Whatever is copied or
// mirrored afterwards is unverified again.
// Thread rule: the disk's loop.
#pragma once

#include "blockmig/base/error.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

/// Errors: reading either side; kCancelled.
Task<Status> read_back(Migration& migration);

/// True: everything is verified. False: `deadline` came first. kMismatch names the first differing
/// offset that was found.
Task<Result<bool>> read_back_under_fence(Migration& migration, TimePoint deadline);

}  // namespace blockmig

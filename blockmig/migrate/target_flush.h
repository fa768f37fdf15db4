// SPDX-License-Identifier: Apache-2.0
// The target's flush on the way to a switchover: what it costs, and whether the fence has time for
// it.
//
// Some targets take long for every flush, however little there is to flush (a disk, NFS, Ceph).
// Where that alone is longer than the fence may last, the fence is passed without one: only if the
// flush before it has made all durable and nothing was written since, and that is looked at again
// behind the closed gate (I1, I12). With a guest that writes all the time this does not come
// about; then the job says so, and neither closes the gate for it in vain nor blames the guest.
// Thread rule: the disk's loop.
#pragma once

#include <string>

#include "blockmig/migrate/migration.h"
#include "blockmig/migrate/switchover.h"

namespace blockmig {

/// With the gate open, until it is cheap or was tried often enough: takes the cost of the bulk out
/// of the fence. The last one is the measure, `migration.flush_cost`.
Task<Status> flush_before_fence(Migration& migration);

/// Lets what is under way at the target become so little that the fence has time for it, before the
/// guest has to wait. False: not soon.
Task<bool> approach_fence(Migration& migration);

/// The last flush took longer than the gate may stay closed.
bool flush_outlasts_fence(const Migration& migration);

/// Nothing that the target has been sent still needs a flush.
bool all_is_durable(const Migration& migration);

/// Under the fence, with the target idle. kSwitched: all is durable, go on.
Task<Result<SwitchOutcome>> flush_under_fence(Migration& migration, TimePoint deadline);

/// For the user, with the numbers.
std::string slow_flush_text(const Migration& migration);

/// A switchover did not come about for the target's flush alone: says so, or ends the job where
/// --on-stall says that.
Result<SwitchOutcome> note_slow_flush(Migration& migration);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Switchover: the instant at which the target becomes the owner of the disk, on one host.
//
//   flush the target until its flush is cheap      gate open; the guest does not notice
//   close the gate, wait until nothing is inside ┐
//   copy what is still dirty                     │ the fence: at most max_downtime, or the
//   target idle, target flushed, all equal       │ gate opens on the source: tried later
//   record ACTIVE(target, epoch + 1)  ◀ decision ┘
//   swap the store, open the gate
//
// Before the decision every failure leaves the source serving (I8). The decision is one synced
// record in the journal; if writing it fails, the journal is read again, and if that is impossible
// the gate stays shut: nobody may serve a disk whose owner is unknown (I3, I7). A journal that had
// failed before refuses the decision unattempted: the owner is known, and the gate opens on the
// source. To find that out without the guest, something is recorded just before the fence.
// Thread rule: the disk's loop.
#pragma once

#include "blockmig/base/error.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/migration.h"

namespace blockmig {

enum class SwitchOutcome : unsigned char {
  kSwitched,
  kPostponed,     ///< it would have taken too long; the guest is on the source, nothing is lost
  kFlushTooSlow,  ///< likewise, for the target's flush alone: no pass and no slower guest helps
  kHeldUp,        ///< likewise, by an operator or by the target's trouble, which is over
};

/// Requires that a pass has ended. Waits while an operator has paused the job. Errors: what the
/// target or the journal said; kCancelled; kMismatch.
Task<Result<SwitchOutcome>> try_switchover(Migration& migration);

/// After an `outcome` that is not kSwitched, before the next try; counts it as the modes judge by.
Task<void> wait_to_retry(Migration& migration, SwitchOutcome outcome);

/// Puts the digest of the whole disk into the report, where every chunk's is known or can be read
/// (report_digests.cc).
Task<void> report_digests(Migration& migration);

}  // namespace blockmig

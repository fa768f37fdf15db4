// SPDX-License-Identifier: Apache-2.0
// DurableWrites: writes that are durable when they end (FUA, RWF_DSYNC) on one open file, of this
// host or of a server, which may not keep flushes apart either: then they are among them.
//
//   write 1 ──▶ begins ────────────────────────▶ ends: EIO
//   write 2 ──────▶ begins ───▶ ends: 0, waits ──▶ fails as well
//   write 3 ─────────────────────────▶ begins ──────▶ fails
//
// They overlap, and share the file's error report, which the kernel gives once (errseq_t): the
// write that is told need not be the one that was lost. So one that has succeeded is answered only
// when all those have ended that were under way when it did, and none has failed (I11): whoever
// took its report is among them, or has ended before. Later ones it does not wait for, so many keep
// the medium busy.
//
// Lifecycle: nobody waits when it is destroyed. Thread rule: one loop.
#pragma once

#include <cstdint>
#include <set>

#include "blockmig/base/function_ref.h"
#include "blockmig/block/sticky_error.h"
#include "blockmig/io/event.h"
#include "blockmig/io/task.h"

namespace blockmig {

class DurableWrites final {
 public:
  /// Writes what the caller has to write, durably or not.
  using Transfer = FunctionRef<Task<Status>(bool durable)>;

  /// A failure is noted in `error`: it fails all later ones, and flushes.
  DurableWrites(EventLoop& loop, StickyError& error) : error_(error), ended_(loop) {}

  /// `transfer` outlives the task. A write that was refused (kNotSupported, kReadOnly, kInvalid),
  /// or failed for want of space before anything was synced (kNoSpace), fails alone.
  Task<Status> write(Transfer transfer);

 private:
  class UnderWay;
  Task<Status> attempt(Transfer transfer);
  bool any_older_than(std::uint64_t number) const {
    return !under_way_.empty() && *under_way_.begin() < number;
  }

  StickyError& error_;
  std::set<std::uint64_t> under_way_;  ///< numbered as they began
  std::uint64_t next_ = 0;
  Event ended_;  ///< pulsed when the oldest one has ended
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Copies from and to mapped files that survive SIGBUS.
//
// Touching a mapped page that the kernel cannot provide (an I/O error, a file that was cut, no room
// for a hole, a damaged memory page) raises SIGBUS. A copy made here ends early instead and says
// so; the caller tries again with pread or pwrite, whose error has a name. Signals whose cause is
// somewhere else go to whoever handled SIGBUS before, or end the process as they would have.
//
// The handler belongs to the process, as signals do: it is installed once and stays. Whoever
// installs another one later must chain to it. Thread rule: any thread.
#pragma once

#include "blockmig/base/bytes.h"

namespace blockmig {

/// Idempotent; before the first copy_guarded().
void install_fault_guard();

/// Copies `from` into `into` (equally long), either of which lies in `mapping`. False: a page of
/// `mapping` could not be had; a part may have been copied.
[[nodiscard]] bool copy_guarded(MutableBytes into, ConstBytes from, ConstBytes mapping);

}  // namespace blockmig

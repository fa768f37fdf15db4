// SPDX-License-Identifier: Apache-2.0
// UringLoop: the IoLoop over io_uring (liburing stays inside uring_*.cc).
//
// Needs Linux 5.13 (multishot poll). Where the kernel knows them it asks for completions to be
// worked off only when the loop enters the kernel (6.1), or else without interrupting it (5.19).
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

/// How the ring is set up, best first.
enum class UringSetup {
  kDeferred,     ///< SINGLE_ISSUER and DEFER_TASKRUN: Linux 6.1
  kCooperative,  ///< COOP_TASKRUN: Linux 5.19
  kPlain,
};

/// kNotSupported, with the reason, if the kernel or the sandbox refuses. Setups better than `best`
/// are not tried (for tests).
Result<std::unique_ptr<IoLoop>> make_uring_loop(const IoLoopOptions& options,
                                                UringSetup best = UringSetup::kDeferred);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Opens an io_uring with the best set-up that the kernel knows. For UringLoop only.
#pragma once

#include "blockmig/base/error.h"
#include "blockmig/io/uring_loop.h"

struct io_uring;

namespace blockmig {

/// Tries the set-ups from `best` on. True: the ring is ready; false: it begins disabled, and
/// belongs to the thread that enables it. kNotSupported where io_uring is refused or too old.
Result<bool> open_ring(UringSetup best, io_uring& ring);

}  // namespace blockmig

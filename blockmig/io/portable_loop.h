// SPDX-License-Identifier: Apache-2.0
// PortableLoop: the IoLoop over epoll, with threads for file I/O. For hosts that refuse io_uring.
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"

namespace blockmig {

Result<std::unique_ptr<IoLoop>> make_portable_loop(const IoLoopOptions& options);

}  // namespace blockmig

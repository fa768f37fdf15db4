// SPDX-License-Identifier: Apache-2.0
// A Stream over two descriptors, one for each direction: pipes, or sockets that are not one
// connection. They become non-blocking, also for whoever else has them. The other side sees the end
// when the stream is destroyed, if nobody else has them open. Thread rule: one loop.
#pragma once

#include <memory>

#include "blockmig/base/error.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/stream.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

/// Its name is "stdio". SIGPIPE must be ignored: a reader that has gone is an error of the write.
Result<std::unique_ptr<Stream>> adopt_descriptors(IoLoop& loop, UniqueFd in, UniqueFd out);

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// A pair of Streams connected in memory, over any loop: for tests and the simulator.
//
// Each direction holds a bounded number of bytes; a writer waits when it is full. shutdown() or
// destruction of one end ends both directions: the other end reads what was written before, then
// the end of the stream, and its writes fail with kDisconnected. Thread rule: one loop. An end
// outlives the calls on it.
#pragma once

#include <cstddef>
#include <memory>
#include <utility>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/stream.h"

namespace blockmig {

struct PipeOptions {
  std::size_t capacity_bytes = 64 * 1024;  ///< of each direction, at least 1
  /// A read gets at most so many bytes (trap 20: 1-byte segments); 0 = no limit.
  std::size_t segment_bytes = 0;
};

std::pair<std::unique_ptr<Stream>, std::unique_ptr<Stream>> make_pipe(
    EventLoop& loop, const PipeOptions& options = {});

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// LogWriter: lines on a descriptor that may block for as long as it likes: a terminal that is
// paused, a pipe that nobody reads. A thread of its own writes them, in order. Who adds a line
// waits for it a moment, so that a crash loses nothing that was said before it; once the descriptor
// has been slow nobody waits until all is written. What does not fit into the queue is dropped and
// counted, for a line that says so. Lifecycle: the destructor writes what is queued, within
// kLastPatience. Thread rule: any thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class LogWriter final {
 public:
  static constexpr std::size_t kQueueBytes = 1u << 20;
  static constexpr Duration kLinePatience = std::chrono::milliseconds(10);
  static constexpr Duration kLastPatience = std::chrono::seconds(1);

  /// `dropped_line` makes the line, with its end, about so many that were dropped; it is called on
  /// the thread, and lives as long as that does. The descriptor stays the caller's.
  LogWriter(int fd, std::function<std::string(std::uint64_t)> dropped_line);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  /// `line` has its end.
  void add(std::string line);
  /// Waits until all is written, but not longer than `patience`. False: it is not.
  bool flush(Duration patience);

 private:
  struct Queue;
  std::shared_ptr<Queue> queue_;
  std::thread thread_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// ServingThreads: the loops that serve clients beside the daemon's own.
// Lifecycle: they run until destruction, which comes after the NBD server's. Thread rule: the
// daemon's loop.
#pragma once

#include <memory>
#include <vector>

#include "blockmig/io/io_thread.h"

namespace blockmig {

class ServingThreads final {
 public:
  /// `threads` in all, the daemon's own included; 0 = automatic (DaemonOptions).
  static Result<ServingThreads> start(unsigned threads, const IoLoopOptions& options);
  /// Those beside the daemon's own.
  std::vector<IoLoop*> loops() const;

 private:
  std::vector<std::unique_ptr<IoThread>> threads_;
};

/// What 0 means on this machine.
unsigned automatic_threads();

}  // namespace blockmig

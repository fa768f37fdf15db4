// SPDX-License-Identifier: Apache-2.0
// BlockingCalls: where calls that may block run.
#pragma once

#include <functional>

namespace blockmig {

class BlockingCalls {
 public:
  virtual ~BlockingCalls() = default;

  /// Runs `work` off the loop's thread (it may block), then `done` on the loop's thread. What runs
  /// them waits at its end for work that has started; neither work nor `done` runs after that.
  virtual void run_blocking(std::function<void()> work, std::function<void()> done) = 0;
};

}  // namespace blockmig

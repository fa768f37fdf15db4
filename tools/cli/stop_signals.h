// SPDX-License-Identifier: Apache-2.0
// StopSignals: SIGINT, SIGTERM and SIGHUP as something to wait for, instead of something that
// happens. A daemon ignores SIGHUP: what means "read your files again", or that a terminal has
// gone, must not take guests their disks; so does who was started with it ignored (nohup). Made
// before any other thread, so that all of them have the signals blocked. SIGPIPE and SIGXFSZ are
// ignored: a peer that went away, or a file that may not grow further (ulimit -f), is an error of
// one write. Lifecycle: restores the mask when destroyed. Thread rule: wait from one thread;
// raise() from any.
#pragma once

#include <csignal>
#include <optional>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class StopSignals final {
 public:
  enum class HangUp { kStops, kIgnored };
  explicit StopSignals(HangUp hang_up = HangUp::kStops);
  ~StopSignals();
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  /// The signal that came within `patience`, if one did.
  std::optional<int> wait_for(Duration patience);
  int wait();
  /// As if SIGTERM had come from outside.
  static void raise();

 private:
  sigset_t stops_{};
  sigset_t before_{};
};

}  // namespace blockmig

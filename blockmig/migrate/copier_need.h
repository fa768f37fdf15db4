// SPDX-License-Identifier: Apache-2.0
// CopierNeed: how much of the disk's loop the copier wants, and so what is left to the guest. Pure:
// no clock of its own.
//
// What a copier does with the loop is reading and hashing; the target takes the bytes elsewhere. A
// slow target asks for little of that, and the guest is left alone. A fast one is kept waiting by a
// guest that has the loop most of the time, and where processors are few also by the guest's own
// work: then the loop's part that the copier uses, times kPerWork, is kept free for the move, which
// ends the sooner. The guest keeps kLeastPart in any case.
//
// It begins as if the target were fast: what a target can take shows only where it is let.
#pragma once

#include <algorithm>
#include <chrono>
#include <cmath>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class CopierNeed final {
 public:
  static constexpr double kLeastPart = 0.05;

  /// It has used `work` of the last `elapsed`.
  void worked(Duration work, Duration elapsed) {
    const double seconds = std::chrono::duration<double>(elapsed).count();
    const double kept = std::exp(-seconds / kMemorySeconds);
    work_ = work_ * kept + std::chrono::duration<double>(work).count();
    seconds_ = seconds_ * kept + seconds;
  }
  /// Of the loop's time. `mirrored`: each of its writes is also the target's, which costs the loop
  /// about as much again, after the guest has been asked what it used.
  double guest_part(bool mirrored) const {
    const double part = std::clamp(1 - kPerWork * work_ / seconds_, kLeastPart, 1.0);
    return mirrored ? part / (part + kMirroredCost * (1 - part)) : part;
  }

 private:
  static constexpr double kMemorySeconds = 0.05;
  /// Behind what the loop does comes the write, which takes twice as long, if elsewhere; and what
  /// the loop leaves to others is never all of use.
  static constexpr double kPerWork = 4;
  static constexpr double kMirroredCost = 1.7;

  double work_ = kMemorySeconds / kPerWork;
  double seconds_ = kMemorySeconds;
};

}  // namespace blockmig

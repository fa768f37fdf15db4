// SPDX-License-Identifier: Apache-2.0
// TokenBucket: a rate in bytes per second that tasks wait for. Limits the copier (--bwlimit), a
// hydration, and the guest's writes: under --on-stall throttle, and in mode cold, which holds them.
//
// A request of any size is admitted as soon as the bucket is not in debt, and then puts it into
// debt: so large requests pass, and the rate holds over time. FIFO. Thread rule: one loop;
// unlimited() any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class TokenBucket final {
 public:
  /// `bytes_per_second` 0 = unlimited.
  TokenBucket(EventLoop& loop, std::uint64_t bytes_per_second)
      : loop_(loop), rate_changed_(loop), rate_(bytes_per_second) {}

  bool unlimited() const { return rate_ == 0 && !held_; }
  /// Nothing passes until let_go().
  void hold() { held_ = true; }
  void let_go();
  bool held() const { return held_; }
  std::uint64_t rate() const { return rate_; }
  /// Effective at once, for those who wait too.
  void set_rate(std::uint64_t bytes_per_second);
  /// Waits until `bytes` may go.
  Task<void> take(std::uint64_t bytes);
  /// `bytes` have gone, without a wait: those after them pay. After take(0) as take(bytes), for who
  /// learns only then how many there are.
  void charge(std::uint64_t bytes);
  /// Time that tasks have waited here, added up.
  Duration waited() const { return waited_; }

 private:
  EventLoop& loop_;
  Event rate_changed_;
  std::atomic<std::uint64_t> rate_;
  TimePoint free_at_{};  ///< when the bytes admitted so far are paid for
  Duration waited_{};
  std::atomic<bool> held_ = false;
};

}  // namespace blockmig

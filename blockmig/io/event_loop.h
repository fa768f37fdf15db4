// SPDX-License-Identifier: Apache-2.0
// EventLoop: where tasks run and what time it is.
//
// Three implementations: UringLoop and PortableLoop (io_loop.h; they also do file and socket I/O),
// and SimLoop (sim_loop.h: simulated clock, seeded order). Everything above blockmig/io is written
// against this class, so that the whole engine runs under seeds.
//
// Thread rules: every method belongs to the loop's own thread except post() and stop().
#pragma once

#include <chrono>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

#include "blockmig/io/blocking_calls.h"

namespace blockmig {

using Duration = std::chrono::nanoseconds;
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;

class EventLoop;

/// A callback at a point in time. Owned by whoever waits; destroying an armed timer disarms it.
/// Timers of one point in time fire in the order they were armed.
class Timer final {
 public:
  /// `fire` runs on the loop's thread, once per arm(). It may arm this timer again, or destroy it.
  Timer(EventLoop& loop, std::function<void()> fire) : loop_(loop), fire_(std::move(fire)) {}
  ~Timer() {
    disarm();
    if (destroyed_ != nullptr) *destroyed_ = true;
  }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  /// Arms, or moves an armed timer to another time.
  void arm(TimePoint when);
  void disarm();
  bool armed() const { return heap_index_ != kNotArmed; }
  TimePoint when() const { return when_; }

 private:
  friend class TimerHeap;
  static constexpr std::size_t kNotArmed = static_cast<std::size_t>(-1);
  EventLoop& loop_;
  std::function<void()> fire_;
  TimePoint when_{};
  std::uint64_t order_ = 0;
  std::size_t heap_index_ = kNotArmed;
  bool* destroyed_ = nullptr;  ///< set while firing
};

class EventLoop : public BlockingCalls {
 public:
  /// Monotonic. Only for deadlines and measurements: correctness never uses time.
  virtual TimePoint now() const = 0;

  /// Runs until stop() was called and processed. Not from a coroutine or callback of this loop.
  virtual void run() = 0;
  /// Any thread. run() returns soon; what is still suspended stays suspended. Before run() it makes
  /// the next run() return at once. One run() takes all stops that came before it returned.
  virtual void stop() = 0;

  /// Resumes `handle` from the loop, not from here: for waking others without growing the stack.
  virtual void defer(std::coroutine_handle<> handle) = 0;
  /// Any thread. Runs `callback` on the loop's thread.
  virtual void post(std::function<void()> callback) = 0;
  /// For whatever has no threads of its own. Many of these may hang, and hold up only each other.
  void run_blocking(std::function<void()> work, std::function<void()> done) override = 0;

  virtual void arm_timer(Timer& timer, TimePoint when) = 0;
  virtual void disarm_timer(Timer& timer) = 0;
};

inline void Timer::arm(TimePoint when) { loop_.arm_timer(*this, when); }
inline void Timer::disarm() {
  if (armed()) loop_.disarm_timer(*this);
}

}  // namespace blockmig

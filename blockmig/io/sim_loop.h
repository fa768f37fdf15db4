// SPDX-License-Identifier: Apache-2.0
// SimLoop: the simulator's event loop. Time is a number that jumps to the next timer; what is ready
// runs in an order drawn from the seed; blocking work runs at once and completes after a drawn
// delay. One run is a function of its seed. Single-threaded; post() is for the owning thread only.
#pragma once

#include <functional>
#include <list>
#include <vector>

#include "blockmig/base/random.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/timer_heap.h"

namespace blockmig {

class SimLoop final : public EventLoop {
 public:
  /// `random` outlives the loop and is shared with the rest of the simulation.
  explicit SimLoop(Random& random) : random_(random) {}
  ~SimLoop() override;

  TimePoint now() const override { return now_; }
  /// Runs until stop(), or until nothing is ready and no timer is armed.
  void run() override;
  void stop() override { stopped_ = true; }
  /// One step: one ready callback, or the jump to the next timer. False if there is nothing to do.
  bool step();
  /// One look at the clock may be late, by up to `late`, and bring all that is due by then: what
  /// several stores have answered reaches their waiters in any order.
  void look_late(Duration late) { late_ = late; }

  void defer(std::coroutine_handle<> handle) override;
  void post(std::function<void()> callback) override;
  void run_blocking(std::function<void()> work, std::function<void()> done) override;
  void arm_timer(Timer& timer, TimePoint when) override { timers_.arm(timer, when); }
  void disarm_timer(Timer& timer) override { timers_.disarm(timer); }

  /// Mixes what ran when into one number: equal for two runs of one seed.
  std::uint64_t trace_hash() const { return trace_hash_; }
  void trace(std::uint64_t value) { trace_hash_ = (trace_hash_ ^ value) * 0x100000001b3ULL; }

 private:
  /// A run_blocking() whose work was done and whose completion is still to come.
  struct BlockingWork {
    BlockingWork(SimLoop& loop, std::function<void()> when_done);
    std::function<void()> done;
    Timer completion;
    std::list<BlockingWork>::iterator self;
  };
  void complete(BlockingWork& work);

  Random& random_;
  TimePoint now_{};
  Duration late_{};
  TimerHeap timers_;
  std::list<BlockingWork> blocking_work_;
  std::vector<std::function<void()>> ready_;
  std::uint64_t trace_hash_ = 0xcbf29ce484222325ULL;
  bool stopped_ = false;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// LoopBase: what UringLoop and PortableLoop share: the ready queue, timers, posts from other
// threads, the threads for calls that block, spinning and sleeping. They add how I/O is submitted
// and how its results are collected.
//
// One turn: run what was posted, fire due timers, resume what is ready, then some of those whose
// file operations ended, between two looks at I/O, and behind whom the first of these found: a disk
// ends whole batches at once, and what its clients want next shall be with it before the whole
// batch is worked off. Otherwise I/O is looked at, and what was queued for it submitted in one go,
// when there is nothing else to do, and after kResumesPerPoll resumed coroutines or kTurnsPerPoll
// turns at the latest, so that nobody starves it. With nothing to do at all the loop spins if that
// pays, then sleeps until I/O, a timer or a post.
//
// Waking: a poster writes the eventfd only if the loop said that it is about to sleep. The loop
// says so and then looks at the queue again, the poster queues and then looks whether the loop
// sleeps; both sequentially consistent, so one of them sees the other. Thread rule: one thread, but
// post() and stop().
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "blockmig/io/handle_queue.h"
#include "blockmig/io/io_loop.h"
#include "blockmig/io/pool_calls.h"
#include "blockmig/io/spin_policy.h"
#include "blockmig/io/timer_heap.h"
#include "blockmig/io/unique_fd.h"

namespace blockmig {

class LoopBase : public IoLoop {
 public:
  static constexpr std::size_t kResumesPerPoll = 64;
  static constexpr std::size_t kTurnsPerPoll = 16;
  static constexpr std::size_t kTimersPerTurn = 1024;

  TimePoint now() const final { return std::chrono::steady_clock::now(); }
  void run() final;
  void stop() final;
  void defer(std::coroutine_handle<> handle) final { ready_.push(handle); }
  void post(std::function<void()> callback) final;
  void run_blocking(std::function<void()> work, std::function<void()> done) final;
  BlockingCalls& file_calls() final { return file_calls_; }
  void arm_timer(Timer& timer, TimePoint when) final { timers_.arm(timer, when); }
  void disarm_timer(Timer& timer) final { timers_.disarm(timer); }

 protected:
  /// `wake` is an eventfd. The derived class watches it for edges (it is never read) and ignores
  /// them.
  LoopBase(const IoLoopOptions& options, UniqueFd wake);

  /// Submits what is queued, waits up to `wait` (nullopt = for ever, zero = not at all) for results
  /// and hands those to defer(). Runs nobody's code.
  virtual void poll_io(std::optional<Duration> wait) = 0;
  /// True if poll_io() would find something. As cheap as possible: it is what spinning does.
  virtual bool io_ready() = 0;
  /// A file's operation is on its way in the kernel, whose end io_ready() will tell.
  virtual bool file_io_in_flight() const { return false; }

  /// As defer(), after the operation of a file.
  void defer_finished(std::coroutine_handle<> handle) { finished_.push(handle); }
  bool has_finished() const { return !finished_.empty(); }

  /// First thing in a derived destructor: joins the threads that would post() to a dying loop.
  void stop_threads();
  bool running() const { return running_; }
  int wake_fd() const { return wake_.get(); }

 private:
  void run_posted();
  void fire_timers();
  void catch_up();
  void resume_ready();
  void resume_finished();
  bool has_work() const {
    return !ready_.empty() || !finished_.empty() || has_posted_.load(std::memory_order_relaxed) ||
           stop_requested_.load(std::memory_order_relaxed);
  }
  void look_at_io();
  void wait_for_work();
  bool spin(TimePoint until);
  void sleep();
  void wake();

  HandleQueue ready_;
  HandleQueue finished_;   ///< whose file operation is done
  std::size_t burst_ = 0;  ///< resumed of those since there were none
  TimerHeap timers_;
  TimePoint looked_{};  ///< at the clock, for timers
  SpinPolicy spin_policy_;
  SpinPolicy file_spin_policy_;  ///< while a file's operation is on its way
  bool running_ = false;
  std::size_t resumed_ = 0;  ///< since the last look at I/O
  std::size_t turns_ = 0;

  std::atomic<bool> stop_requested_ = false;
  std::atomic<bool> has_posted_ = false;
  std::atomic<bool> asleep_ = false;
  std::mutex posted_mutex_;
  std::vector<std::function<void()>> posted_;

  UniqueFd wake_;
  PoolCalls calls_;
  PoolCalls file_calls_;
};

/// An eventfd for LoopBase.
Result<UniqueFd> make_wake_fd();

}  // namespace blockmig

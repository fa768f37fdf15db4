// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/loop_base.h"

#include <sys/eventfd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <utility>

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

/// A fast disk answers a batch within 50 to 500 us, a client that is at it sooner; whoever sleeps
/// until then is woken 20 us late. On a slower disk the longer spin soon does not pay, and is left
/// out.
constexpr int kFileSpins = 10;
/// Of the file operations that ended together so many are resumed at a time: a few at first, so
/// that their clients are answered, and the disk has work again, before the rest is looked at; then
/// as many as all before together, up to a few again.
constexpr std::size_t kFirstFinished = 2;
constexpr std::size_t kMostFinished = 8;
/// Looks at I/O between two looks at the clock while spinning.
constexpr int kLooksPerClock = 16;

/// Between two looks at the clock: this process did not run, or something kept its loop.
constexpr Duration kPause = std::chrono::milliseconds(50);
/// Turns that answers of before it get at most to reach who waits for them.
constexpr int kTurnsToCatchUp = 64;

inline void cpu_relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

LoopBase::LoopBase(const IoLoopOptions& options, UniqueFd wake)
    : spin_policy_(options.spin),
      file_spin_policy_(options.spin * kFileSpins),
      wake_(std::move(wake)),
      calls_(*this, options.blocking_threads),
      file_calls_(*this, options.blocking_threads) {}

void LoopBase::stop_threads() {
  calls_.stop();
  file_calls_.stop();
}

void LoopBase::run() {
  BM_CHECK(!running_);
  running_ = true;
  while (!stop_requested_.load(std::memory_order_acquire)) {
    run_posted();
    fire_timers();
    resume_ready();
    if (!finished_.empty()) {
      look_at_io();
      if (!ready_.empty()) {  // what clients want next goes to the disk before the others' answers
        resume_ready();
        look_at_io();
      }
      resume_finished();
    }
    if (!has_work()) {
      wait_for_work();
    } else if (resumed_ >= kResumesPerPoll || ++turns_ >= kTurnsPerPoll) {
      look_at_io();
    }
  }
  poll_io(Duration::zero());  // what was queued in the last turn goes out
  running_ = false;
  stop_requested_.store(false, std::memory_order_release);
}

void LoopBase::look_at_io() {
  resumed_ = turns_ = 0;
  poll_io(Duration::zero());
}

void LoopBase::stop() {
  stop_requested_.store(true, std::memory_order_seq_cst);
  wake();
}

void LoopBase::post(std::function<void()> callback) {
  {
    const std::lock_guard lock(posted_mutex_);
    posted_.push_back(std::move(callback));
  }
  has_posted_.store(true, std::memory_order_seq_cst);
  wake();
}

void LoopBase::wake() {
  // Only the first of several wakers of one sleep pays for the system call.
  if (!asleep_.load(std::memory_order_seq_cst)) return;
  if (!asleep_.exchange(false, std::memory_order_seq_cst)) return;
  const std::uint64_t one = 1;
  while (::write(wake_.get(), &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void LoopBase::run_blocking(std::function<void()> work, std::function<void()> done) {
  calls_.run_blocking(std::move(work), std::move(done));
}

void LoopBase::run_posted() {
  if (!has_posted_.load(std::memory_order_acquire)) return;
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(posted_mutex_);
    batch.swap(posted_);
    has_posted_.store(false, std::memory_order_relaxed);
  }
  for (auto& callback : batch) {
    callback();
    callback = nullptr;
  }
}

void LoopBase::fire_timers() {
  if (timers_.empty()) return;
  const TimePoint time = now();
  const bool late = time - looked_ > kPause && *timers_.earliest() <= time;
  looked_ = time;
  if (late) catch_up();
  std::size_t fired = 0;
  while (fired < kTimersPerTurn && timers_.fire_due(time)) ++fired;
}

/// After a pause of ours there are answers that were in time, and nobody is to blame for a deadline
/// that passed in it.
void LoopBase::catch_up() {
  for (int turn = 0; turn < kTurnsToCatchUp; ++turn) {
    look_at_io();
    if (!has_work()) return;
    run_posted();
    resume_ready();
    resume_finished();
  }
}

void LoopBase::resume_ready() {
  const std::size_t count = std::min(ready_.size(), kResumesPerPoll);
  for (std::size_t i = 0; i < count; ++i) ready_.pop().resume();
  resumed_ += count;
}

void LoopBase::resume_finished() {
  const std::size_t group = std::clamp(burst_, kFirstFinished, kMostFinished);
  const std::size_t count = std::min(finished_.size(), group);
  for (std::size_t i = 0; i < count; ++i) finished_.pop().resume();
  resumed_ += count;
  burst_ = finished_.empty() ? 0 : burst_ + count;
}

void LoopBase::wait_for_work() {
  look_at_io();
  if (has_work()) return;
  SpinPolicy& policy = file_io_in_flight() ? file_spin_policy_ : spin_policy_;
  const Duration budget = policy.before_sleep();
  if (budget > Duration::zero()) {
    const TimePoint start = now();
    TimePoint until = start + budget;
    if (!timers_.empty()) until = std::min(until, *timers_.earliest());
    const bool paid = spin(until);
    policy.spun(paid);
    if (paid) {
      poll_io(Duration::zero());
      return;
    }
  }
  sleep();
}

bool LoopBase::spin(TimePoint until) {
  do {
    for (int i = 0; i < kLooksPerClock; ++i) {
      if (has_work() || io_ready()) return true;
      cpu_relax();
    }
  } while (now() < until);
  return false;
}

void LoopBase::sleep() {
  std::optional<Duration> wait;
  if (!timers_.empty()) wait = std::max(*timers_.earliest() - now(), Duration::zero());
  asleep_.store(true, std::memory_order_seq_cst);
  const bool must_not = has_posted_.load(std::memory_order_seq_cst) ||
                        stop_requested_.load(std::memory_order_seq_cst);
  if (must_not) wait = Duration::zero();
  resumed_ = turns_ = 0;
  poll_io(wait);
  asleep_.store(false, std::memory_order_seq_cst);
}

Result<UniqueFd> make_wake_fd() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd) return Error::from_errno(errno, "event loop: eventfd");
  return fd;
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/sim_loop.h"

#include <utility>

namespace blockmig {

SimLoop::~SimLoop() = default;

void SimLoop::run() {
  while (!stopped_ && step()) {
  }
  stopped_ = false;
}

bool SimLoop::step() {
  if (!ready_.empty()) {
    const std::size_t pick = random_.below(ready_.size());
    std::swap(ready_[pick], ready_.back());
    const auto callback = std::move(ready_.back());
    ready_.pop_back();
    trace(pick);
    callback();
    return true;
  }
  const auto next = timers_.earliest();
  if (!next) return false;
  if (*next > now_) now_ = *next;
  if (late_ > Duration::zero() && random_.chance(3, 4)) {
    const auto most = static_cast<std::uint64_t>(late_.count());
    // Mostly a little; all of it now and then.
    const std::uint64_t late = random_.below(random_.chance(1, 4) ? most : most / 20 + 1);
    now_ += Duration(static_cast<Duration::rep>(late));
    while (timers_.fire_due(now_)) {
    }
  }
  trace(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
  timers_.fire_due(now_);
  return true;
}

void SimLoop::defer(std::coroutine_handle<> handle) {
  ready_.push_back([handle] { handle.resume(); });
}

void SimLoop::post(std::function<void()> callback) { ready_.push_back(std::move(callback)); }

SimLoop::BlockingWork::BlockingWork(SimLoop& loop, std::function<void()> when_done)
    : done(std::move(when_done)), completion(loop, [this, &loop] { loop.complete(*this); }) {}

void SimLoop::complete(BlockingWork& work) {
  post(std::move(work.done));
  blocking_work_.erase(work.self);
}

void SimLoop::run_blocking(std::function<void()> work, std::function<void()> done) {
  work();
  const auto place = blocking_work_.emplace(blocking_work_.end(), *this, std::move(done));
  place->self = place;
  place->completion.arm(now_ + std::chrono::microseconds(random_.between(1, 2000)));
}

}  // namespace blockmig

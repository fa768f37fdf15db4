// SPDX-License-Identifier: Apache-2.0
// Cancellation: a CancelSource says "stop" once; whoever holds it as a token asks, or is called
// back.
//
// Cancelling never interrupts a coroutine from outside: it wakes the wait that the coroutine is in,
// which then returns kCancelled, and everything unwinds in the ordinary way.
// Thread rule: one loop. A source outlives its callbacks.
#pragma once

#include <functional>
#include <list>
#include <utility>

#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class CancelSource final {
 public:
  explicit CancelSource(EventLoop& loop) : event_(loop) {}

  /// Idempotent. Callbacks run before it returns; waiters of event() are resumed by the loop.
  void cancel() {
    if (event_.is_set()) return;
    event_.set();
    while (!callbacks_.empty()) {
      const auto callback = std::move(callbacks_.front()->call_);
      callbacks_.front()->linked_ = false;
      callbacks_.pop_front();
      callback();
    }
  }
  bool cancelled() const { return event_.is_set(); }
  /// Set when cancelled: a sleep that cancellation ends is `event().wait_until(deadline)`.
  Event& event() { return event_; }

  /// Calls back on cancel(); at once if that has happened. Unregistered by destruction.
  class Callback final {
   public:
    Callback(CancelSource& source, std::function<void()> call)
        : source_(source), call_(std::move(call)) {
      if (source_.cancelled()) {
        call_();
        return;
      }
      place_ = source_.callbacks_.insert(source_.callbacks_.end(), this);
      linked_ = true;
    }
    ~Callback() {
      if (linked_) source_.callbacks_.erase(place_);
    }
    Callback(const Callback&) = delete;
    Callback& operator=(const Callback&) = delete;

   private:
    friend class CancelSource;
    CancelSource& source_;
    std::function<void()> call_;
    std::list<Callback*>::iterator place_;
    bool linked_ = false;
  };

 private:
  Event event_;
  std::list<Callback*> callbacks_;
};

/// Suspends for `duration`.
Task<void> sleep_for(EventLoop& loop, Duration duration);

}  // namespace blockmig

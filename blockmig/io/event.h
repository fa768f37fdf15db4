// SPDX-License-Identifier: Apache-2.0
// Event: a condition that tasks wait for, with an optional deadline.
//
// set() wakes every waiter (through the loop, in order) and stays set until reset(). Waiters that
// time out get false. Destroy an Event only when nobody waits. Thread rule: one loop; to signal
// from another thread, post() a set().
#pragma once

#include <coroutine>
#include <optional>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class Event final {
 public:
  explicit Event(EventLoop& loop) : loop_(loop) {}
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void set();
  void reset() { set_ = false; }
  bool is_set() const { return set_; }
  bool has_waiters() const { return head_ != nullptr; }
  /// set() and reset() in one: wakes those who wait now, and nobody later.
  void pulse();

  class Waiter {
   public:
    Waiter(Event& event, std::optional<TimePoint> deadline) : event_(event), deadline_(deadline) {}
    Waiter(const Waiter&) = delete;
    Waiter& operator=(const Waiter&) = delete;
    bool await_ready() const { return event_.set_; }
    void await_suspend(std::coroutine_handle<> handle);
    /// True if the event was set, false if the deadline passed first.
    bool await_resume() const { return !timed_out_; }

   private:
    friend class Event;
    void time_out();

    Event& event_;
    std::optional<TimePoint> deadline_;
    std::optional<Timer> timer_;
    std::coroutine_handle<> handle_;
    Waiter* next_ = nullptr;
    Waiter* previous_ = nullptr;
    bool timed_out_ = false;
  };
  Waiter wait() { return Waiter(*this, std::nullopt); }
  Waiter wait_until(TimePoint deadline) { return Waiter(*this, deadline); }

 private:
  void link(Waiter& waiter);
  void unlink(Waiter& waiter);
  void wake_all();

  EventLoop& loop_;
  Waiter* head_ = nullptr;
  Waiter* tail_ = nullptr;
  bool set_ = false;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/event.h"

#include "blockmig/base/check.h"

namespace blockmig {

Event::~Event() { BM_CHECK(head_ == nullptr); }

void Event::set() {
  set_ = true;
  wake_all();
}

void Event::pulse() { wake_all(); }

void Event::wake_all() {
  while (head_ != nullptr) {
    Waiter& waiter = *head_;
    unlink(waiter);
    waiter.timer_.reset();
    loop_.defer(waiter.handle_);
  }
}

void Event::link(Waiter& waiter) {
  waiter.previous_ = tail_;
  waiter.next_ = nullptr;
  (tail_ != nullptr ? tail_->next_ : head_) = &waiter;
  tail_ = &waiter;
}

void Event::unlink(Waiter& waiter) {
  (waiter.previous_ != nullptr ? waiter.previous_->next_ : head_) = waiter.next_;
  (waiter.next_ != nullptr ? waiter.next_->previous_ : tail_) = waiter.previous_;
  waiter.next_ = waiter.previous_ = nullptr;
}

void Event::Waiter::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  event_.link(*this);
  if (deadline_) {
    timer_.emplace(event_.loop_, [this] { time_out(); });
    timer_->arm(*deadline_);
  }
}

void Event::Waiter::time_out() {
  timed_out_ = true;
  event_.unlink(*this);
  event_.loop_.defer(handle_);
}

}  // namespace blockmig

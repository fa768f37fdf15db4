// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/gate.h"

#include "blockmig/base/check.h"

namespace blockmig {

Gate::~Gate() { BM_CHECK(inside_ == 0 && first_ == nullptr); }

void Gate::EnterAwaiter::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  (gate_.last_ != nullptr ? gate_.last_->next_ : gate_.first_) = this;
  gate_.last_ = this;
  ++gate_.parked_;
}

Result<GateHold> Gate::EnterAwaiter::await_resume() {
  if (!admitted_) return Error(ErrorCode::kShutdown, "the disk is shutting down");
  return GateHold(gate_);
}

void Gate::begin_close() {
  if (state_ == State::kOpen) state_ = State::kClosing;
  drained_.reset();
  if (inside_ == 0) drained();
}

void Gate::drained() {
  if (state_ == State::kClosing) state_ = State::kClosed;
  drained_.set();
}

Task<bool> Gate::close_until(TimePoint deadline) {
  begin_close();
  const bool is_drained = co_await drained_.wait_until(deadline);
  co_return is_drained;
}

Task<void> Gate::close() {
  begin_close();
  co_await drained_.wait();
}

void Gate::open() {
  if (state_ == State::kShut) return;
  BM_CHECK(state_ == State::kClosing || state_ == State::kClosed);
  state_ = State::kOpen;
  wake_parked(true);
}

void Gate::shut() {
  state_ = State::kShut;
  wake_parked(false);
}

void Gate::wake_parked(bool admit) {
  while (first_ != nullptr) {
    EnterAwaiter& waiter = *first_;
    first_ = waiter.next_;
    if (first_ == nullptr) last_ = nullptr;
    --parked_;
    waiter.admitted_ = admit;
    if (admit) ++inside_;
    loop_.defer(waiter.handle_);
  }
}

void Gate::leave() {
  BM_CHECK(inside_ > 0);
  if (--inside_ == 0 && state_ != State::kOpen) drained();
}

}  // namespace blockmig

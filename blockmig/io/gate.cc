// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/gate.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {

GateShard::GateShard(Gate& gate) : gate_(gate) { gate_.shards_.push_back(this); }

GateShard::~GateShard() {
  BM_CHECK(inside_.load(std::memory_order_acquire) == 0);
  std::erase(gate_.shards_, this);
}

void GateShard::leave() {
  const bool last = inside_.fetch_sub(1, std::memory_order_seq_cst) == 1;
  if (!last || !gate_.barred_.load(std::memory_order_seq_cst)) return;
  Gate* const gate = &gate_;
  gate->loop_.post([gate] { gate->drained_if_empty(); });
}

Gate::~Gate() { BM_CHECK(inside_ == 0 && first_ == nullptr && shards_.empty()); }

void Gate::EnterAwaiter::await_suspend(std::coroutine_handle<> handle) {
  if (gate_.state_ == State::kOpen && planted(PlantedBug::kAdmittedUncounted)) {
    uncounted_ = true;
    gate_.loop_.run_blocking([] {}, [handle] { handle.resume(); });
    return;
  }
  handle_ = handle;
  (gate_.last_ != nullptr ? gate_.last_->next_ : gate_.first_) = this;
  gate_.last_ = this;
  ++gate_.parked_;
}

Result<GateHold> Gate::EnterAwaiter::await_resume() {
  if (uncounted_) {
    ++gate_.inside_;
    return GateHold(gate_);
  }
  if (!admitted_) return Error(ErrorCode::kShutdown, "the disk is shutting down");
  return GateHold(gate_);
}

void Gate::enter_state(State state) {
  state_ = state;
  barred_.store(state != State::kOpen, std::memory_order_seq_cst);
}

void Gate::begin_close() {
  if (state_ == State::kOpen) enter_state(State::kClosing);
  drained_.reset();
  drained_if_empty();
}

bool Gate::is_empty() const {
  return inside_ == 0 && std::all_of(shards_.begin(), shards_.end(), [](const GateShard* shard) {
           return shard->inside_.load(std::memory_order_seq_cst) == 0;
         });
}

void Gate::watch_shards() {
  for (GateShard* shard : shards_) shard->was_empty_ = false;
}

bool Gate::shards_were_empty() {
  bool all = true;
  for (GateShard* shard : shards_) {
    if (shard->inside_.load(std::memory_order_seq_cst) == 0) shard->was_empty_ = true;
    all = all && shard->was_empty_;
  }
  return all;
}

void Gate::drained_if_empty() {
  if (state_ == State::kOpen || !is_empty()) return;
  if (state_ == State::kClosing) enter_state(State::kClosed);
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
  enter_state(State::kOpen);
  wake_parked(true);
}

void Gate::shut() {
  enter_state(State::kShut);
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
  if (--inside_ == 0) drained_if_empty();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// LoopBarrier: waits until another loop has run everything that was posted to it before, and has
// returned from whatever it was in. `co_await LoopBarrier(here, there);` Must not be destroyed
// while suspended. Thread rule: awaited on `here`; both loops outlive it.
#pragma once

#include <coroutine>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class LoopBarrier final {
 public:
  LoopBarrier(EventLoop& here, EventLoop& there) : here_(here), there_(there) {}
  bool await_ready() const { return &here_ == &there_; }
  void await_suspend(std::coroutine_handle<> awaiter) {
    EventLoop* const here = &here_;
    there_.post([here, awaiter] { here->post([awaiter] { awaiter.resume(); }); });
  }
  void await_resume() const {}

 private:
  EventLoop& here_;
  EventLoop& there_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// YieldToLoop: lets others on the loop run first. `co_await YieldToLoop(loop);` Thread rule: one
// loop.
#pragma once

#include <coroutine>

#include "blockmig/io/event_loop.h"

namespace blockmig::nbd {

class YieldToLoop final {
 public:
  explicit YieldToLoop(EventLoop& loop) : loop_(loop) {}
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> handle) { loop_.defer(handle); }
  void await_resume() const {}

 private:
  EventLoop& loop_;
};

}  // namespace blockmig::nbd

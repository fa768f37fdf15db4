// SPDX-License-Identifier: Apache-2.0
// call_on: awaits, on one loop, a task that runs on another.
//
//   here                                  there
//   co_await call_on(...) ── post() ────▶ make() is called and its task runs, owned by `scope`
//   resumes with the result ◀── post() ── the task has ended
//
// A coroutine never changes threads: what crosses is the call, and then the result. `make` is
// called on the loop `there`; the caller's frame keeps it and whatever it refers to alive. The
// task is owned by `scope`, which belongs to `there` and is joined there as any other. Both loops
// outlive the call. What was posted by one side before arrives at the other side before.
//
// Must not be destroyed while suspended. Thread rule: awaited on `here`.
#pragma once

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {

/// `Make` is a callable without arguments that returns a Task of something (not void).
template <typename Make>
class [[nodiscard]] call_on final {
 public:
  using Value =
      decltype(std::declval<std::invoke_result_t<Make&>&>().operator co_await().await_resume());

  call_on(EventLoop& here, EventLoop& there, TaskScope& scope, Make make)
      : here_(here), there_(there), scope_(scope), make_(std::move(make)) {}
  call_on(const call_on&) = delete;
  call_on& operator=(const call_on&) = delete;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> awaiter) {
    awaiter_ = awaiter;
    there_.post([this] { scope_.spawn(run(this)); });
  }
  Value await_resume() { return std::move(*value_); }

 private:
  static Task<void> run(call_on* call) {
    Value value = co_await call->make_();
    call->value_.emplace(std::move(value));
    // The last touch: once posted, the caller may have gone on and the object with it.
    const std::coroutine_handle<> awaiter = call->awaiter_;
    call->here_.post([awaiter] { awaiter.resume(); });
  }

  EventLoop& here_;
  EventLoop& there_;
  TaskScope& scope_;
  Make make_;
  std::optional<Value> value_;
  std::coroutine_handle<> awaiter_;
};

}  // namespace blockmig

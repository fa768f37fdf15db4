// SPDX-License-Identifier: Apache-2.0
// TaskScope: owns tasks that run beside their creator.
//
// Lifecycle: spawn() starts a task at once, on the spot; join() waits until every spawned task has
// finished. The scope must be joined (or empty) when it is destroyed: nothing is ever detached.
// A scope does not cancel: stop the things its tasks wait on, then join.
// Thread rule: one loop.
#pragma once

#include <coroutine>
#include <cstddef>

#include "blockmig/base/check.h"
#include "blockmig/io/task.h"

namespace blockmig {

class TaskScope final : private detail::TaskOwner {
 public:
  TaskScope() = default;
  ~TaskScope() { BM_CHECK(running_ == 0); }
  TaskScope(const TaskScope&) = delete;
  TaskScope& operator=(const TaskScope&) = delete;

  /// Starts `task`; it runs until its first suspension before spawn() returns.
  void spawn(Task<void> task) {
    auto handle = task.release();
    BM_CHECK(handle);
    ++running_;
    handle.promise().set_owner(this);
    handle.resume();
  }
  std::size_t running() const { return running_; }

  struct JoinAwaiter {
    TaskScope& scope;
    bool await_ready() const { return scope.running_ == 0; }
    void await_suspend(std::coroutine_handle<> joiner) {
      BM_CHECK(!scope.joiner_);
      scope.joiner_ = joiner;
    }
    void await_resume() const {}
  };
  /// Resumes when no task is running. One joiner at a time.
  JoinAwaiter join() { return JoinAwaiter{*this}; }

 private:
  void task_finished() noexcept override {
    if (--running_ == 0 && joiner_) std::exchange(joiner_, {}).resume();
  }

  std::size_t running_ = 0;
  std::coroutine_handle<> joiner_;
};

}  // namespace blockmig

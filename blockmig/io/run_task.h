// SPDX-License-Identifier: Apache-2.0
// run_task: runs a loop until one task has finished, and returns what it computed. For main
// functions and tests, from outside the loop: never from a coroutine or a callback.
//
// An IoLoop waits as long as the task takes. A SimLoop that runs out of things to do before the
// task has finished is a deadlock of the simulated program: the process aborts. Other tasks of the
// loop progress meanwhile and stay suspended where they are when the task has finished. A stop() of
// somebody else does not end it.
#pragma once

#include <optional>
#include <type_traits>
#include <utility>

#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/io/task_scope.h"

namespace blockmig {

namespace detail {

struct TaskRun {
  bool done = false;
  /// run() waits for the task; when it does not, a stop() would end some later run().
  bool stop_when_done = false;
};

/// Runs `loop` until `run.done`.
void run_until_done(EventLoop& loop, TaskRun& run);

inline void finish(EventLoop& loop, TaskRun& run) {
  run.done = true;
  if (run.stop_when_done) loop.stop();
}

template <typename T>
Task<void> drive_task(EventLoop& loop, Task<T>& task, std::optional<T>& result, TaskRun& run) {
  auto value = co_await task;
  result.emplace(std::move(value));
  finish(loop, run);
}

inline Task<void> drive_void_task(EventLoop& loop, Task<void>& task, TaskRun& run) {
  co_await task;
  finish(loop, run);
}

}  // namespace detail

template <typename T>
T run_task(EventLoop& loop, Task<T> task) {
  detail::TaskRun run;
  TaskScope scope;
  if constexpr (std::is_void_v<T>) {
    scope.spawn(detail::drive_void_task(loop, task, run));
    detail::run_until_done(loop, run);
  } else {
    std::optional<T> result;
    scope.spawn(detail::drive_task(loop, task, result, run));
    detail::run_until_done(loop, run);
    return std::move(*result);
  }
}

}  // namespace blockmig

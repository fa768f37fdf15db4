// SPDX-License-Identifier: Apache-2.0
// Task<T>: a coroutine that computes a T.
//
// Lifecycle: lazy; it starts when it is awaited (or spawned into a TaskScope), runs on the awaiting
// coroutine's loop, and resumes the awaiter when it returns. The Task object owns the frame; a Task
// that is never awaited never runs. Await a Task once.
//
// Toolchain rules (GCC 12.2; a lint test enforces them, unit tests keep the reproducers):
//  - no symmetric transfer: `bool await_suspend` resumes the child inside it and returns false if
//    the child already finished, so a million awaits that complete at once use no stack;
//  - co_await only as a whole statement or as the initialiser of a named variable, never in a
//    condition, a ternary, an argument list or a braced list;
//  - arguments to coroutines are named variables, moved; no temporary aggregates.
//
// Exceptions do not cross tasks: one that escapes a task body terminates the process. Failures that
// are expected are values (error.h), because a clean-up has to await, and a `catch` cannot.
//
// Thread rule: a task lives on one loop.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/io/frame_pool.h"

namespace blockmig {

template <typename T>
class Task;

namespace detail {

/// Told when a spawned task has finished and its frame is gone. TaskScope is the one
/// implementation.
class TaskOwner {
 public:
  virtual void task_finished() noexcept = 0;

 protected:
  ~TaskOwner() = default;
};

class PromiseBase {
 public:
  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* frame, std::size_t bytes) noexcept { free_frame(frame, bytes); }

  std::suspend_always initial_suspend() noexcept { return {}; }
  [[noreturn]] void unhandled_exception() noexcept { std::terminate(); }

  struct FinalAwaiter {
    bool await_ready() const noexcept { return false; }
    template <typename Promise>
    void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
      PromiseBase& promise = self.promise();
      // The frame may be destroyed by what is resumed here: touch nothing afterwards.
      if (promise.owner_ != nullptr) {
        TaskOwner* owner = promise.owner_;
        self.destroy();
        owner->task_finished();
      } else if (promise.continuation_) {
        promise.continuation_.resume();
      }
    }
    void await_resume() const noexcept {}
  };
  FinalAwaiter final_suspend() noexcept { return {}; }

  void set_continuation(std::coroutine_handle<> awaiter) { continuation_ = awaiter; }
  void set_owner(TaskOwner* owner) { owner_ = owner; }

 private:
  std::coroutine_handle<> continuation_;
  TaskOwner* owner_ = nullptr;
};

template <typename T>
class Promise final : public PromiseBase {
 public:
  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& value) {
    value_.emplace(std::forward<U>(value));
  }
  T take() {
    BM_CHECK(value_.has_value());
    return std::move(*value_);
  }

 private:
  std::optional<T> value_;
};

template <>
class Promise<void> final : public PromiseBase {
 public:
  Task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() noexcept {}
};

}  // namespace detail

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  Task() = default;
  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, {});
    }
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  class Awaiter {
   public:
    explicit Awaiter(Handle handle) : handle_(handle) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> awaiter) {
      handle_.resume();
      if (handle_.done()) return false;
      handle_.promise().set_continuation(awaiter);
      return true;
    }
    T await_resume() { return handle_.promise().take(); }

   private:
    Handle handle_;
  };
  Awaiter operator co_await() const noexcept { return Awaiter(handle_); }

  /// Gives the frame away; TaskScope only.
  Handle release() { return std::exchange(handle_, {}); }

 private:
  Handle handle_;
};

namespace detail {
template <typename T>
Task<T> Promise<T>::get_return_object() noexcept {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() noexcept {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}
}  // namespace detail

}  // namespace blockmig

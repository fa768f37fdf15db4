// SPDX-License-Identifier: Apache-2.0
// offload: runs a function that may block on another thread and awaits its result.
#pragma once

#include <coroutine>
#include <optional>
#include <type_traits>
#include <utility>

#include "blockmig/io/blocking_calls.h"

namespace blockmig {

/// co_await offload(loop, [..] { return blocking_call(); }); the loop, or threads of their own. The
/// caller's frame keeps the function and whatever it refers to alive. Must not be destroyed while
/// suspended.
template <typename Function>
class [[nodiscard]] offload final {
 public:
  using Value = std::invoke_result_t<Function&>;

  offload(BlockingCalls& calls, Function function)
      : calls_(calls), function_(std::move(function)) {}
  offload(const offload&) = delete;
  offload& operator=(const offload&) = delete;

  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> awaiter) {
    calls_.run_blocking(
        [this] {
          if constexpr (std::is_void_v<Value>) {
            function_();
          } else {
            value_.emplace(function_());
          }
        },
        [awaiter] { awaiter.resume(); });
  }
  Value await_resume() {
    if constexpr (!std::is_void_v<Value>) return std::move(*value_);
  }

 private:
  BlockingCalls& calls_;
  Function function_;
  std::optional<std::conditional_t<std::is_void_v<Value>, char, Value>> value_;
};

}  // namespace blockmig

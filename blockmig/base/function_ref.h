// SPDX-License-Identifier: Apache-2.0
// FunctionRef: a callable that is borrowed for the time of one call. Two pointers; nothing is
// allocated. What it refers to must outlive the call it is passed to.
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace blockmig {

template <typename Signature>
class FunctionRef;

template <typename Value, typename... Arguments>
class FunctionRef<Value(Arguments...)> final {
 public:
  template <typename Callable>
  requires(!std::is_same_v<std::remove_cvref_t<Callable>, FunctionRef> &&
           std::is_invocable_r_v<Value, Callable&, Arguments...>)
      FunctionRef(Callable&& callable)  // NOLINT: made from lambdas at the call
      : callable_(const_cast<void*>(static_cast<const void*>(std::addressof(callable)))),
        call_([](void* object, Arguments... arguments) -> Value {
          return (*static_cast<std::remove_reference_t<Callable>*>(object))(
              std::forward<Arguments>(arguments)...);
        }) {}

  Value operator()(Arguments... arguments) const {
    return call_(callable_, std::forward<Arguments>(arguments)...);
  }

 private:
  void* callable_;
  Value (*call_)(void*, Arguments...);
};

}  // namespace blockmig

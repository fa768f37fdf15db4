// SPDX-License-Identifier: Apache-2.0
// Assertions that stay on in every build.
//
// BM_CHECK states what our own code guarantees; it is never reachable by a peer's bytes or a
// device's error, which are Results. A failed check prints the condition and aborts: a wrong
// migration is worse than a stopped one, and the journal makes stopping safe (I7).
#pragma once

namespace blockmig {
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;
}  // namespace blockmig

#define BM_CHECK(condition)                          \
  (__builtin_expect(static_cast<bool>(condition), 1) \
       ? static_cast<void>(0)                        \
       : ::blockmig::check_failed(#condition, __FILE__, __LINE__))

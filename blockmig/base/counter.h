// SPDX-License-Identifier: Apache-2.0
// Counter: a number that one thread writes and any thread reads.
//
// With a single writer a relaxed load and store are enough: no locked instruction, no fence; on
// x86-64 add() is one `add` to memory. Copying takes a snapshot, so that a struct of counters is
// its own snapshot type. A reader sees every counter whole and never going backwards (sub() aside),
// but two counters not necessarily of the same instant. Thread rule: one writer, many readers.
#pragma once

#include <atomic>
#include <cstdint>

namespace blockmig {

class Counter final {
 public:
  Counter() = default;
  Counter(std::uint64_t value) : value_(value) {}  // NOLINT: a number is a snapshot
  Counter(const Counter& other) : value_(other.value()) {}
  Counter& operator=(const Counter& other) {
    set(other.value());
    return *this;
  }

  std::uint64_t value() const { return value_.load(std::memory_order_relaxed); }

  // The writer's.
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  void add(std::uint64_t amount = 1) { set(value() + amount); }
  void sub(std::uint64_t amount = 1) { set(value() - amount); }
  void raise_to(std::uint64_t at_least) {
    if (at_least > value()) set(at_least);
  }
  /// For a maximum "since last asked", by a reader: the value, which starts again from 0. What a
  /// concurrent raise_to() brings is seen by this call or by the next one, unless it is below what
  /// this call returns.
  std::uint64_t take() { return value_.exchange(0, std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_ = 0;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Semaphore: bounds what is in flight, in requests or in bytes. FIFO, so a large request is not
// starved by small ones. A request larger than the whole capacity is admitted alone. Thread rule:
// one loop.
#pragma once

#include <coroutine>
#include <cstdint>

#include "blockmig/io/event_loop.h"

namespace blockmig {

class Semaphore final {
 public:
  Semaphore(EventLoop& loop, std::uint64_t capacity) : loop_(loop), capacity_(capacity) {}
  ~Semaphore();
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  class AcquireAwaiter {
   public:
    AcquireAwaiter(Semaphore& semaphore, std::uint64_t units)
        : semaphore_(semaphore), units_(units) {}
    AcquireAwaiter(const AcquireAwaiter&) = delete;
    AcquireAwaiter& operator=(const AcquireAwaiter&) = delete;
    bool await_ready() { return semaphore_.first_ == nullptr && semaphore_.try_take(units_); }
    void await_suspend(std::coroutine_handle<> handle);
    void await_resume() const {}

   private:
    friend class Semaphore;
    Semaphore& semaphore_;
    std::uint64_t units_;
    std::coroutine_handle<> handle_;
    AcquireAwaiter* next_ = nullptr;
  };
  /// Pair every acquire(n) with one release(n).
  AcquireAwaiter acquire(std::uint64_t units) { return AcquireAwaiter(*this, units); }
  void release(std::uint64_t units);

  std::uint64_t capacity() const { return capacity_; }
  std::uint64_t in_use() const { return in_use_; }
  bool has_waiters() const { return first_ != nullptr; }

 private:
  bool try_take(std::uint64_t units) {
    if (in_use_ != 0 && in_use_ + units > capacity_) return false;
    in_use_ += units;
    return true;
  }
  void admit_waiters();

  EventLoop& loop_;
  const std::uint64_t capacity_;
  std::uint64_t in_use_ = 0;
  AcquireAwaiter* first_ = nullptr;
  AcquireAwaiter* last_ = nullptr;
};

}  // namespace blockmig

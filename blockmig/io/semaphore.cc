// SPDX-License-Identifier: Apache-2.0
#include "blockmig/io/semaphore.h"

#include "blockmig/base/check.h"

namespace blockmig {

Semaphore::~Semaphore() { BM_CHECK(first_ == nullptr && in_use_ == 0); }

void Semaphore::AcquireAwaiter::await_suspend(std::coroutine_handle<> handle) {
  handle_ = handle;
  (semaphore_.last_ != nullptr ? semaphore_.last_->next_ : semaphore_.first_) = this;
  semaphore_.last_ = this;
}

void Semaphore::release(std::uint64_t units) {
  BM_CHECK(units <= in_use_);
  in_use_ -= units;
  admit_waiters();
}

void Semaphore::admit_waiters() {
  while (first_ != nullptr && try_take(first_->units_)) {
    AcquireAwaiter& waiter = *first_;
    first_ = waiter.next_;
    if (first_ == nullptr) last_ = nullptr;
    loop_.defer(waiter.handle_);
  }
}

}  // namespace blockmig

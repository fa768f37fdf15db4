// SPDX-License-Identifier: Apache-2.0
// Visit: one who is inside something, counted for as long as it lives. The last one out wakes
// whoever waits for that. Unlike a Gate it keeps nobody out. Count and event outlive it. Thread
// rule: the thread of whoever owns the count.
#pragma once

#include "blockmig/io/event.h"

namespace blockmig {

template <typename Count>
class Visit final {
 public:
  explicit Visit(Count& count) : count_(count) { ++count_; }
  /// `left` is pulsed whenever nobody is inside any more.
  Visit(Count& count, Event& left) : count_(count), left_(&left) { ++count_; }
  ~Visit() {
    if (--count_ == 0 && left_ != nullptr) left_->pulse();
  }
  Visit(const Visit&) = delete;
  Visit& operator=(const Visit&) = delete;

 private:
  Count& count_;
  Event* left_ = nullptr;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// StoreSilence: for how long a store that has requests of ours has answered none of them.
// Thread rule: one loop.
#pragma once

#include "blockmig/io/event_loop.h"

namespace blockmig {

class StoreSilence final {
 public:
  explicit StoreSilence(EventLoop& loop) : loop_(loop) {}

  /// A request under way; its end is an answer.
  class Request final {
   public:
    explicit Request(StoreSilence& silence) : silence_(silence) {
      if (silence_.requests_++ == 0) silence_.since_ = silence_.loop_.now();
    }
    ~Request() {
      --silence_.requests_;
      silence_.since_ = silence_.loop_.now();
    }
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;

   private:
    StoreSilence& silence_;
  };

  Duration lasts() const { return requests_ == 0 ? Duration::zero() : loop_.now() - since_; }

 private:
  EventLoop& loop_;
  unsigned requests_ = 0;
  TimePoint since_{};
};

}  // namespace blockmig

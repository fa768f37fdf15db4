// SPDX-License-Identifier: Apache-2.0
// Turns: one at a time. Those who wait take turns by where they come from, and in order among their
// own: a crowd of one origin delays another one's first by a turn. Thread rule: one loop.
#pragma once

#include <deque>
#include <map>
#include <string>

#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class Turns final {
 public:
  explicit Turns(EventLoop& loop) : loop_(loop) {}
  ~Turns();
  Turns(const Turns&) = delete;
  Turns& operator=(const Turns&) = delete;

  /// Pair each take() with one give().
  Task<void> take(std::string origin);
  void give();
  bool is_taken() const { return taken_; }

 private:
  EventLoop& loop_;
  bool taken_ = false;
  std::string last_;  ///< whose turn it was among those who had to wait
  std::map<std::string, std::deque<Event*>> lines_;  ///< none is empty
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Unanswered: targets at which jobs that have ended still have requests. Such a request may change
// the target whenever its server comes to it, so nobody else may write there until then (I9), and
// the connection is not cut: the server would go on all the same, and nobody would know when it is
// done.
//
// Lifecycle: an Entry lives until the target has answered all. Thread rule: one loop.
#pragma once

#include <list>
#include <memory>
#include <string>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/task.h"

namespace blockmig {

class Replica;

class Unanswered final {
 public:
  struct Place {
    std::string job;
    std::string disk;
    std::string uri;
  };
  class Entry final {
   public:
    /// `replica` outlives it.
    Entry(Unanswered& owner, Place place, Replica& replica);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class Unanswered;
    Unanswered& owner_;
    Place place_;
    Replica& replica_;
    std::list<Entry*>::iterator at_;
  };

  explicit Unanswered(EventLoop& loop) : changed_(loop) {}

  std::vector<Place> places() const;
  /// Returns when nothing is unanswered at `uri`; false at the deadline.
  Task<bool> wait(std::string uri, TimePoint deadline);
  /// For a process that ends: does not wait for the rest of the answers.
  void cut();

 private:
  std::list<Entry*> entries_;
  Event changed_;  ///< pulsed when an entry has gone
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// Unanswered: stores at which jobs that have ended may still have requests, as their targets or as
// what their disks fetched from. Such a request may change the store whenever its server comes to
// it, so nobody else may write there until then (I9), and the connection is not cut: the server
// would go on all the same, and nobody would know when it is done.
//
// Lifecycle: an Entry lives until the store has answered all and is closed. Thread rule: one loop.
#pragma once

#include <functional>
#include <list>
#include <string>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/task.h"

namespace blockmig {

class Unanswered final {
 public:
  struct Place {
    std::string job;
    std::string disk;
    std::string uri;
  };
  class Entry final {
   public:
    /// `cut`: ends the wait for answers (Unanswered::cut()). What it refers to outlives this.
    Entry(Unanswered& owner, Place place, std::function<void()> cut);
    ~Entry();
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;

   private:
    friend class Unanswered;
    Unanswered& owner_;
    Place place_;
    std::function<void()> cut_;
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

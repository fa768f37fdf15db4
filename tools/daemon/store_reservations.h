// SPDX-License-Identifier: Apache-2.0
// StoreReservations: stores that somebody is about to use, and is not listed with yet.
//
// Who wants a store looks first whether somebody uses it, which takes awaits (stat, an NBD server's
// answer); two that look at the same time must not both find it free. So he reserves it with no
// await after taking the list that he looks into, and holds it until his disk or job is listed: of
// two, the later one has the earlier in its list. Lifecycle: outlives what it gives out. Thread
// rule: the loop.
#pragma once

#include <list>
#include <utility>

#include "tools/daemon/store_use.h"

namespace blockmig {

class StoreReservations final {
 public:
  /// Holds a store until it is destroyed.
  class [[nodiscard]] Hold final {
   public:
    Hold(Hold&& other) noexcept : set_(std::exchange(other.set_, nullptr)), use_(other.use_) {}
    Hold& operator=(Hold&&) = delete;
    ~Hold() {
      if (set_ != nullptr) set_->uses_.erase(use_);
    }

   private:
    friend class StoreReservations;
    Hold(StoreReservations& set, std::list<StoreUse>::iterator use) : set_(&set), use_(use) {}

    StoreReservations* set_;
    std::list<StoreUse>::iterator use_;
  };

  Hold reserve(StoreUse use) { return {*this, uses_.insert(uses_.end(), std::move(use))}; }
  const std::list<StoreUse>& uses() const { return uses_; }

 private:
  std::list<StoreUse> uses_;
};

}  // namespace blockmig

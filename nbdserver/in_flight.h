// SPDX-License-Identifier: Apache-2.0
// InFlight: what one connection has admitted and not yet answered on the wire, in requests and in
// bytes.
//
// A request counts from its admission until its reply has been sent, so that neither a slow device
// nor a client that does not read can make memory grow: everything has a limit. A request larger
// than the whole limit is admitted alone. Over all connections together the bytes come out of a
// MemoryBudget. Thread rule: one loop; requests() and bytes() any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "blockmig/base/check.h"
#include "blockmig/base/counter.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "nbdserver/memory_budget.h"

namespace blockmig::nbd {

class InFlight final {
 public:
  /// `shown` is kept equal to requests(), for other threads to read. `budget` outlives the object;
  /// null: there is no common limit. `origin`: StreamPeer::origin; `disk`: the export's name.
  InFlight(EventLoop& loop, std::uint32_t max_requests, std::uint64_t max_bytes, Counter& shown,
           MemoryBudget* budget = nullptr, std::string origin = {}, std::string disk = {})
      : max_requests_(max_requests),
        max_bytes_(max_bytes),
        shown_(shown),
        changed_(loop),
        share_(loop, budget, std::move(origin), std::move(disk), [this] {
          ++gives_;
          wake();
        }) {}

  /// If not, changed() is pulsed when it is time to ask again.
  bool admits(std::uint64_t bytes) {
    const bool within =
        requests() == 0 || (requests() < max_requests_ && bytes_.value() + bytes <= max_bytes_);
    return within && share_.cover(bytes_.value() + bytes);
  }
  void take(std::uint64_t bytes) {
    requests_.add();
    bytes_.add(bytes);
    shown_.set(requests_.value());
  }
  void give(std::uint32_t requests, std::uint64_t bytes) {
    BM_CHECK(requests <= requests_.value() && bytes <= bytes_.value());
    requests_.sub(requests);
    bytes_.sub(bytes);
    shown_.set(requests_.value());
    given_bytes_ += bytes;
    share_.shrink_to(bytes_.value());
    ++gives_;
    wake();
  }
  /// Wakes whoever waits for room or for the end.
  void wake() {
    if (changed_.has_waiters()) changed_.pulse();
  }
  /// Pulsed when something was given back; look again afterwards.
  Event& changed() { return changed_; }
  /// Counts what may have made room: tells whether a look is out of date.
  std::uint64_t gives() const { return gives_; }

  std::uint32_t requests() const { return static_cast<std::uint32_t>(requests_.value()); }
  std::uint64_t bytes() const { return bytes_.value(); }
  /// What it holds of the budget, and what give() has given back since the beginning.
  std::uint64_t held_bytes() const { return share_.held(); }
  std::uint64_t given_bytes() const { return given_bytes_; }

 private:
  const std::uint32_t max_requests_;
  const std::uint64_t max_bytes_;
  Counter requests_;
  Counter bytes_;
  Counter& shown_;
  std::uint64_t given_bytes_ = 0;
  std::uint64_t gives_ = 0;
  Event changed_;
  BudgetShare share_;
};

}  // namespace blockmig::nbd

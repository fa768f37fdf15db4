// SPDX-License-Identifier: Apache-2.0
// InFlight: what one connection has admitted and not yet answered on the wire, in requests and in
// bytes.
//
// A request counts from its admission until its reply has been sent, so that neither a slow device
// nor a client that does not read can make memory grow (style rule 16). A request larger than the
// whole limit is admitted alone. Thread rule: one loop.
#pragma once

#include <cstdint>

#include "blockmig/base/check.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"

namespace blockmig::nbd {

class InFlight final {
 public:
  InFlight(EventLoop& loop, std::uint32_t max_requests, std::uint64_t max_bytes)
      : max_requests_(max_requests), max_bytes_(max_bytes), changed_(loop) {}

  bool admits(std::uint64_t bytes) const {
    return requests_ == 0 || (requests_ < max_requests_ && bytes_ + bytes <= max_bytes_);
  }
  void take(std::uint64_t bytes) {
    ++requests_;
    bytes_ += bytes;
  }
  void give(std::uint32_t requests, std::uint64_t bytes) {
    BM_CHECK(requests <= requests_ && bytes <= bytes_);
    requests_ -= requests;
    bytes_ -= bytes;
    ++gives_;
    wake();
  }
  /// Wakes whoever waits for room or for the end.
  void wake() {
    if (changed_.has_waiters()) changed_.pulse();
  }
  /// Pulsed when something was given back; look again afterwards.
  Event& changed() { return changed_; }
  /// Counts the calls of give(): tells whether a look is out of date.
  std::uint64_t gives() const { return gives_; }

  std::uint32_t requests() const { return requests_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  const std::uint32_t max_requests_;
  const std::uint64_t max_bytes_;
  std::uint32_t requests_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t gives_ = 0;
  Event changed_;
};

}  // namespace blockmig::nbd

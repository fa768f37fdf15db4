// SPDX-License-Identifier: Apache-2.0
// How a connection's intake ends on request: by shutdown, cut, or parked for another owner.
#include <chrono>

#include "nbdserver/transmission.h"

namespace blockmig::nbd {
namespace {

/// How long an idle connection stays open after begin_shutdown().
constexpr Duration kShutdownLinger = std::chrono::milliseconds(10);

}  // namespace

void Transmission::begin_shutdown() {
  if (state_ != State::kServing) return;
  state_ = State::kDraining;
  in_flight_.wake();
  drain_.spawn(drain_then_close());
}

void Transmission::park() {
  if (state_ != State::kServing) return;
  state_ = State::kParking;
  if (!in_payload_ && skip_left_ == 0) stream_.end_reading();
  in_flight_.wake();
}

void Transmission::cut() {
  state_ = State::kEnding;
  stream_.shutdown();
  in_flight_.wake();
}

void Transmission::cut_if_gone() {
  if (stream_.peer_is_gone()) cut();
}

Task<void> Transmission::drain_then_close() {
  // Requests that are on their way shall get their ESHUTDOWN rather than a closed connection.
  const TimePoint until = loop_.now() + kShutdownLinger;
  while (loop_.now() < until && state_ == State::kDraining) {
    co_await in_flight_.changed().wait_until(until);
  }
  while (in_flight_.requests() != 0 && state_ == State::kDraining) {
    co_await in_flight_.changed().wait();
  }
  if (state_ == State::kDraining) stream_.shutdown();
}

}  // namespace blockmig::nbd

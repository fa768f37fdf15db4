// SPDX-License-Identifier: Apache-2.0
// MetricsConnection: one client of the metrics listener, from its first byte to its close.
//
// Never blocks: its owner polls descriptor() for events() and calls advance() when there are any.
// Holds at most the bytes of a request, and a page that it shares with others. Lifecycle: the owner
// destroys it once it has ended; or at any time, which closes the socket whatever is under way.
// Thread rule: its owner's thread.
#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "blockmig/io/unique_fd.h"
#include "tools/control/channel.h"

namespace blockmig {

class MetricsConnection final {
 public:
  // reading ──▶ asking ──▶ answering ──▶ draining ──▶ closed
  //    │                       ▲             │          ▲
  //    ├── refused ────────────┘             │          │
  //    └── the client went (from each) ──────┴──────────┘
  enum class State {
    kReading,    ///< the request has not come as a whole
    kAsking,     ///< it is to have the page: answer()
    kAnswering,  ///< there is some of the answer to send
    kDraining,   ///< sent; what still comes is thrown away, so that a reset does not destroy it
    kClosed,
  };

  using Clock = std::chrono::steady_clock;

  /// A connected socket that does not block; a request has at most `request_bytes`.
  MetricsConnection(UniqueFd socket, std::size_t request_bytes, Clock::time_point until)
      : socket_(std::move(socket)), request_bytes_(request_bytes), until_(until) {}
  ~MetricsConnection();
  MetricsConnection(const MetricsConnection&) = delete;
  MetricsConnection& operator=(const MetricsConnection&) = delete;

  int descriptor() const { return socket_.get(); }
  /// What to poll for; none while it asks.
  short events() const;
  bool asks() const { return state_ == State::kAsking; }
  /// Closed, or it has had its time.
  bool has_ended(Clock::time_point now) const { return state_ == State::kClosed || until_ <= now; }
  Clock::time_point until() const { return until_; }

  /// Goes on as far as it can without waiting.
  void advance();
  /// Of one that asks. Another one may be given the same page.
  void answer(std::shared_ptr<const ControlResponse> page);

 private:
  void enter(State next);
  void read();
  void refuse(int status);
  void begin_answer();
  void send();
  void drain();

  UniqueFd socket_;
  const std::size_t request_bytes_;
  const Clock::time_point until_;
  State state_ = State::kReading;
  std::string received_;
  bool wants_body_ = true;
  std::shared_ptr<const ControlResponse> page_;
  std::string head_;
  std::size_t sent_bytes_ = 0;  ///< of head and body
  std::size_t discarded_bytes_ = 0;
};

}  // namespace blockmig

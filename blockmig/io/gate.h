// SPDX-License-Identifier: Apache-2.0
// Gate: the only way in.
//
//            close()                    last hold released
//   kOpen ───────────▶ kClosing ──────────────────────────▶ kClosed
//     ▲                   │                                    │
//     └───────────────────┴────────────── open() ──────────────┘
//   any ── shut() ──▶ kShut
//
// enter() admits at once while the gate is open, and parks the caller (FIFO) otherwise. close()
// refuses new entries immediately and resumes its caller when every hold has been released: from
// then until open() nothing is inside. Counting and admitting are one step, so nobody is ever
// admitted but not counted (trap 1), and whoever arrives by whichever connection meets the same
// gate (trap 2). shut() closes for ever: parked and future callers get kShutdown, what is inside
// finishes. close() of a shut gate only waits for that. Thread rule: one loop.
#pragma once

#include <coroutine>
#include <cstddef>
#include <utility>

#include "blockmig/base/error.h"
#include "blockmig/base/planted.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class Gate;

/// One entry; released by destruction.
class [[nodiscard]] GateHold final {
 public:
  GateHold() = default;
  explicit GateHold(Gate& gate) : gate_(&gate) {}
  GateHold(GateHold&& other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
  GateHold& operator=(GateHold&& other) noexcept {
    if (this != &other) {
      release();
      gate_ = std::exchange(other.gate_, nullptr);
    }
    return *this;
  }
  ~GateHold() { release(); }
  void release();

 private:
  Gate* gate_ = nullptr;
};

class Gate final {
 public:
  enum class State { kOpen, kClosing, kClosed, kShut };

  explicit Gate(EventLoop& loop) : loop_(loop), drained_(loop) {}
  ~Gate();
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;

  class EnterAwaiter {
   public:
    explicit EnterAwaiter(Gate& gate) : gate_(gate) {}
    EnterAwaiter(const EnterAwaiter&) = delete;
    EnterAwaiter& operator=(const EnterAwaiter&) = delete;
    bool await_ready() {
      if (gate_.state_ == State::kOpen || planted(PlantedBug::kWriteBypassesClosedGate)) {
        ++gate_.inside_;
        admitted_ = true;
        return true;
      }
      return gate_.state_ == State::kShut;
    }
    void await_suspend(std::coroutine_handle<> handle);
    /// The hold, or kShutdown.
    Result<GateHold> await_resume();

   private:
    friend class Gate;
    Gate& gate_;
    std::coroutine_handle<> handle_;
    EnterAwaiter* next_ = nullptr;
    bool admitted_ = false;
  };
  /// co_await it into a named variable.
  EnterAwaiter enter() { return EnterAwaiter(*this); }

  /// Refuses new entries, then waits until nothing is inside. False if `deadline` passed first: the
  /// gate is then still closing, or has closed since, and the caller opens it again or waits again.
  Task<bool> close_until(TimePoint deadline);
  Task<void> close();
  /// Admits everybody parked, in order. A shut gate stays shut.
  void open();
  void shut();

  State state() const { return state_; }
  std::size_t inside() const { return inside_; }
  std::size_t parked() const { return parked_; }

 private:
  friend class GateHold;
  void leave();
  void wake_parked(bool admit);
  void begin_close();
  void drained();

  EventLoop& loop_;
  Event drained_;
  State state_ = State::kOpen;
  std::size_t inside_ = 0;
  std::size_t parked_ = 0;
  EnterAwaiter* first_ = nullptr;
  EnterAwaiter* last_ = nullptr;
};

inline void GateHold::release() {
  if (gate_ != nullptr) std::exchange(gate_, nullptr)->leave();
}

}  // namespace blockmig

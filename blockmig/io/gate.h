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
// finishes. close() of a shut gate only waits for that.
//
// GateShard: the same gate for requests that another thread serves whole, on the spot. try_enter()
// counts first and then looks whether the gate is open; close() bars first and then looks at the
// counts. Both in sequentially consistent order, so either the request sees the bar and goes to
// the loop to be parked, or the gate sees the request and waits for it. The last one to leave a
// barred shard tells the loop.
//
// Thread rule: one loop; a GateShard's try_enter() and leave() on one thread, any.
#pragma once

#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "blockmig/base/error.h"
#include "blockmig/base/planted.h"
#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class Gate;

/// One thread's entrance for requests that never wait inside. Made and destroyed on the gate's
/// loop; before it is destroyed its thread has stopped using it, and the loop has run what that
/// thread posted. Holds are short: close() waits for them.
class GateShard final {
 public:
  explicit GateShard(Gate& gate);
  ~GateShard();
  GateShard(const GateShard&) = delete;
  GateShard& operator=(const GateShard&) = delete;

  /// False: the gate is not open; enter() on the loop instead.
  bool try_enter();
  void leave();

 private:
  friend class Gate;
  /// A line of its own: two threads that count do not slow each other.
  static constexpr std::size_t kCacheLineBytes = 64;

  Gate& gate_;
  alignas(kCacheLineBytes) std::atomic<std::uint32_t> inside_ = 0;
  bool was_empty_ = true;  ///< since watch_shards(); the loop's
};

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
  explicit operator bool() const { return gate_ != nullptr; }

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
      if (gate_.state_ == State::kOpen && planted(PlantedBug::kAdmittedUncounted)) return false;
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
    bool uncounted_ = false;  ///< with that bug planted: admitted, not inside
  };
  /// For whoever would not wait: an entry if the gate is open, else an empty hold.
  GateHold try_enter() {
    if (state_ != State::kOpen) return GateHold();
    ++inside_;
    return GateHold(*this);
  }
  /// co_await it into a named variable.
  EnterAwaiter enter() { return EnterAwaiter(*this); }

  /// Refuses new entries, then waits until nothing is inside. False if `deadline` passed first: the
  /// gate is then still closing, or has closed since, and the caller opens it again or waits again.
  Task<bool> close_until(TimePoint deadline);
  Task<void> close();
  /// Admits everybody parked, in order. A shut gate stays shut.
  void open();
  void shut();

  /// From here on shards_were_empty() tells whether every shard has been seen with nobody inside:
  /// then whoever entered before this call has left. Poll it; holds of shards are short.
  void watch_shards();
  bool shards_were_empty();

  State state() const { return state_; }
  /// Requests on the loop only; those in shards are not counted here.
  std::size_t inside() const { return inside_; }
  std::size_t parked() const { return parked_; }

 private:
  friend class GateHold;
  friend class GateShard;
  void leave();
  void wake_parked(bool admit);
  void begin_close();
  bool is_empty() const;
  void drained_if_empty();
  void enter_state(State state);

  EventLoop& loop_;
  Event drained_;
  State state_ = State::kOpen;
  std::size_t inside_ = 0;
  std::size_t parked_ = 0;
  EnterAwaiter* first_ = nullptr;
  EnterAwaiter* last_ = nullptr;
  std::vector<GateShard*> shards_;
  std::atomic<bool> barred_ = false;  ///< state_ is not kOpen, for shards
};

inline bool GateShard::try_enter() {
  inside_.fetch_add(1, std::memory_order_seq_cst);
  if (!gate_.barred_.load(std::memory_order_seq_cst)) return true;
  leave();
  return false;
}

inline void GateHold::release() {
  if (gate_ != nullptr) std::exchange(gate_, nullptr)->leave();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// RangeLock: overlapping byte ranges one after the other, in order of arrival; others at the same
// time. Keeps a read-modify-write of one block from undoing a neighbour's write to the same block
// (trap 8).
//
// A hold is released by destruction. To stay free of deadlock a task holds one range at a time.
// Thread rule: one loop. Costs a count per 64 KiB of the range; a pass over the ranges held or
// waited for where such a count says that somebody may be in the way.
#pragma once

#include <array>
#include <coroutine>
#include <cstdint>
#include <list>
#include <utility>

#include "blockmig/base/bytes.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class RangeLock final {
 public:
  explicit RangeLock(EventLoop& loop) : loop_(loop) {}
  ~RangeLock();
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;

 private:
  struct Entry {
    ByteRange range;
    std::coroutine_handle<> waiter;  ///< null once granted
    bool passes = false;             ///< of passed(): nobody waits for it
  };
  using Place = std::list<Entry>::iterator;

 public:
  class Awaiter;
  class [[nodiscard]] Hold {
   public:
    Hold() = default;
    Hold(RangeLock& lock, Place place) : lock_(&lock), place_(place) {}
    Hold(Hold&& other) noexcept
        : lock_(std::exchange(other.lock_, nullptr)), place_(other.place_) {}
    Hold& operator=(Hold&& other) noexcept {
      if (this != &other) {
        release();
        lock_ = std::exchange(other.lock_, nullptr);
        place_ = other.place_;
      }
      return *this;
    }
    ~Hold() { release(); }
    void release() {
      if (lock_ != nullptr) std::exchange(lock_, nullptr)->release(place_);
    }
    /// A hold of `outer`, which covers this one's range, in its stead; co_await as of lock().
    /// Nobody gets in between: who waits for a byte of this one waits on, and only who holds some
    /// of the rest goes first.
    Awaiter widen(ByteRange outer);

   private:
    RangeLock* lock_ = nullptr;
    Place place_;
  };

  class Awaiter {
   public:
    Awaiter(RangeLock& lock, Place place) : lock_(lock), place_(place) {}
    Awaiter(const Awaiter&) = delete;
    Awaiter& operator=(const Awaiter&) = delete;
    bool await_ready() const { return lock_.is_first(place_); }
    void await_suspend(std::coroutine_handle<> handle) {
      place_->waiter = handle;
      ++lock_.waiting_;
    }
    Hold await_resume() { return Hold(lock_, place_); }

   private:
    RangeLock& lock_;
    Place place_;
  };
  /// co_await it into a named variable, at once: the place in the queue is taken by the call.
  Awaiter lock(ByteRange range);
  class [[nodiscard]] Passage {
   public:
    Passage(RangeLock& lock, Place place) : turn_(lock, place) {}
    bool await_ready() const { return turn_.await_ready(); }
    void await_suspend(std::coroutine_handle<> handle) { turn_.await_suspend(handle); }
    void await_resume() { turn_.await_resume().release(); }

   private:
    Awaiter turn_;
  };
  /// co_await it: everybody who held a byte of the range, or waited for one, has let it go. Later
  /// ones do not wait for it, as they would for lock().
  Passage passed(ByteRange range);
  /// Somebody holds, or waits for, a byte of the range.
  bool touches(ByteRange range) const;
  /// The beginning of the range, up to the first byte that somebody holds or waits for.
  ByteRange untouched_part(ByteRange range) const;

 private:
  Place enter(ByteRange range, bool passes);
  bool is_first(Place place) const;
  void release(Place place);
  Awaiter widen(Place place, ByteRange outer);

  /// What others wait for is counted by units of 64 KiB, many of which share a count.
  static constexpr std::uint64_t kUnitBytes = 64 * kKiB;
  static constexpr std::uint64_t kCounts = 256;
  void count(const Entry& entry, int by);
  /// No more than `own` entries touch any unit of the range.
  bool only(std::uint32_t own, ByteRange range) const;

  EventLoop& loop_;
  std::list<Entry> entries_;  ///< held and waited for, in order of arrival
  std::list<Entry> spare_;    ///< nodes for the next ones
  std::array<std::uint32_t, kCounts> counts_{};
  std::size_t waiting_ = 0;  ///< entries with a waiter
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// InlinePolicy: may a call that can block be made on the loop's own thread?
//
// A write to the page cache takes a microsecond, until the kernel throttles the writer, waits for
// its journal, or for a page under write-back: then it takes milliseconds and stops every client.
// So each call is measured; a slow one that the kernel held up sends the following ones through
// asynchronous I/O for a while, first 10 ms, doubling to 1 s while slow calls go on, and from the
// start again after a second without one.
//
// On a busy machine a call is also slow because another process had the processor; asynchronous
// I/O would not help then, and costs more. The clock cannot tell the two apart, and asking the
// kernel costs as much as a small write: so the first slow call is forgiven, and the next few calls
// are watched, which means that the thread's switches are counted before and after.
//
// Pure: a function of what it is told. It decides only speed, never correctness: so threads that
// observe at once may lose one of two observations. Thread rule: any thread.
#pragma once

#include <atomic>
#include <cstdint>

#include "blockmig/base/bytes.h"
#include "blockmig/io/event_loop.h"

namespace blockmig {

class InlinePolicy final {
 public:
  static constexpr Duration kFirstQuiet = std::chrono::milliseconds(10);
  static constexpr Duration kLongestQuiet = std::chrono::seconds(1);
  static constexpr Duration kForgetAfter = std::chrono::seconds(1);
  static constexpr int kWatchedCalls = 16;
  /// A call of up to one MiB that takes longer is slow; larger ones in proportion.
  static constexpr Duration kSlowPerMiB = std::chrono::milliseconds(1);
  /// Larger requests are never made inline: copying them alone would hold up others.
  static constexpr std::uint64_t kMaxInlineBytes = kMiB;

  /// How often a thread lost the processor, so far or during a call.
  struct Switches {
    std::int64_t waited = 0;     ///< of itself: the kernel waited for something
    std::int64_t preempted = 0;  ///< to another thread that wanted it
  };

  bool allows(TimePoint now, std::uint64_t bytes) const {
    return bytes <= kMaxInlineBytes && now >= quiet_until();
  }
  /// The thread's switches are to be counted around the call that begins now.
  bool watches_next() {
    const int left = watched_calls_.load(std::memory_order_relaxed);
    if (left > 0) watched_calls_.store(left - 1, std::memory_order_relaxed);
    return left > 0;
  }
  /// An inline call of `bytes` took so long that why matters.
  static bool is_slow(Duration took, std::uint64_t bytes);
  /// A slow call that was not watched.
  void forgive() { watched_calls_.store(kWatchedCalls, std::memory_order_relaxed); }
  /// A slow call that was watched ran from `start` to `end`.
  void observe_slow(TimePoint start, TimePoint end, Switches during);
  TimePoint quiet_until() const {
    return TimePoint(Duration(quiet_until_.load(std::memory_order_relaxed)));
  }

 private:
  std::atomic<Duration::rep> quiet_until_{0};  ///< since the clock's epoch
  std::atomic<Duration::rep> quiet_{0};
  std::atomic<int> watched_calls_{0};  ///< to come
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// SectorOrder: no sector is read while it is written, whoever does it (I2).
//
// The page cache does not keep a reader and a writer of one sector apart. Here meet: requests of
// the loop in asynchronous I/O (kept apart among themselves exactly and in order of arrival, by
// RangeLock), and calls that any thread makes on the spot (RangeStripes). A claim or a call is left
// by destruction. Thread rule: try_anywhere() from any thread, the rest on the loop.
#pragma once

#include <atomic>
#include <utility>

#include "blockmig/base/bytes.h"
#include "blockmig/block/range_lock.h"
#include "blockmig/block/range_stripes.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"

namespace blockmig {

class SectorOrder final {
 public:
  using Access = RangeStripes::Access;
  using Call = RangeStripes::Call;

  explicit SectorOrder(EventLoop& loop) : loop_(loop), requests_(loop) {}

  /// An asynchronous request's claim to its range.
  struct Claim {
    Claim(RangeLock::Hold loop, RangeStripes::Async threads)
        : from_loop(std::move(loop)), from_threads(std::move(threads)) {}
    RangeLock::Hold from_loop;
    RangeStripes::Async from_threads;
  };
  /// Waits until nothing is in the way. Its place in the order is taken when it is first awaited.
  Task<Claim> claim(ByteRange range, Access access);

  /// For a call that is made now, on the loop's thread and without suspending: not granted where
  /// something is in the way.
  Call try_on_loop(ByteRange range, Access access);
  /// The same on any thread; refused now and then for nothing. On the loop's thread only while
  /// share(false).
  Call try_anywhere(ByteRange range, Access access);

  /// No other thread calls: what try_on_loop() grants holds until the loop's thread suspends.
  bool is_alone() const { return !shared_.load(std::memory_order_relaxed); }
  /// As BlockDevice::share_between_threads().
  void share(bool on) { shared_.store(on, std::memory_order_relaxed); }

 private:
  EventLoop& loop_;
  std::atomic<bool> shared_ = true;
  RangeLock requests_;
  RangeStripes stripes_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// BandwidthPool: what all copiers of one daemon may do together (blockmigd --bwlimit), shared by
// the priorities of their jobs. BandwidthShare: one job's part in it.
//
// With a limit, it is start-time fair queuing over a token bucket. A copier asks for its turn, is
// let through, and says what it has taken:
//
//   wait_turn() ── waiting ──▶ the bucket is out of debt, and no share that waits is further
//                              behind in bytes per weight ──▶ charge(bytes) ──▶ debt
//
// So copiers that ask all the time get the rate in the ratio of their weights, and what one leaves
// others have: only those who wait are compared, and nobody saves up for having been idle.
//
// Without a limit nobody waits; then a priority decides how many copies a job may have in flight
// while jobs of higher priority copy: depth(). Those that have not copied for kIdle do not count.
//
// Lifecycle: the pool outlives its shares. Thread rule: one loop. Rates are bytes per second.
#pragma once

#include <cstdint>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/io/event_loop.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/job_options.h"

namespace blockmig {

class BandwidthShare;

/// Of a job that is limited, against others.
std::uint32_t weight_of(Priority priority);

class BandwidthPool final {
 public:
  static constexpr Duration kIdle = std::chrono::seconds(1);

  explicit BandwidthPool(EventLoop& loop) : loop_(loop), changed_(loop) {}
  ~BandwidthPool();

  /// 0 = unlimited. Effective at once, for those who wait too.
  void set_rate(std::uint64_t bytes_per_second);
  std::uint64_t rate() const { return rate_; }

 private:
  friend class BandwidthShare;
  const BandwidthShare* next() const;
  void add_debt(std::uint64_t bytes);

  EventLoop& loop_;
  Event changed_;  ///< pulsed when the next one may be another, or may go earlier
  std::uint64_t rate_ = 0;
  TimePoint free_at_{};      ///< when the bytes let through so far are paid for
  double virtual_time_ = 0;  ///< bytes per weight, of whoever was let through last
  std::vector<BandwidthShare*> shares_;
  std::vector<BandwidthShare*> waiting_;  ///< in order of arrival
};

class BandwidthShare final {
 public:
  BandwidthShare(BandwidthPool& pool, Priority priority);
  ~BandwidthShare();
  BandwidthShare(const BandwidthShare&) = delete;
  BandwidthShare& operator=(const BandwidthShare&) = delete;

  /// From the next turn on.
  void set_priority(Priority priority) { priority_ = priority; }
  Priority priority() const { return priority_; }
  /// False: wait_turn() would return at once.
  bool limited() const { return pool_.rate_ != 0 && !released_; }
  /// One task at a time. The turn lasts until the caller gives control back to the loop: charge()
  /// what is taken before that.
  Task<void> wait_turn();
  /// `bytes` are copied; also for who has not waited.
  void charge(std::uint64_t bytes);
  /// Of one turn at most, so that turns are short: at least one byte.
  std::uint64_t turn_bytes() const;
  /// The job has been aborted: it never waits here again.
  void release();
  /// Copies in flight at most, of `most`; at least 1. Without a limit, by priority.
  std::uint32_t depth(std::uint32_t most) const;

 private:
  friend class BandwidthPool;
  bool copies() const;
  double start() const;

  BandwidthPool& pool_;
  Priority priority_;
  bool released_ = false;
  bool waiting_ = false;
  bool turn_ = false;
  double start_ = 0;   ///< virtual time of what waits
  double finish_ = 0;  ///< virtual time of what was let through
  TimePoint copied_at_{};
  bool copied_ = false;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// MemoryBudget: the memory that the requests of all connections may hold together.
//
//   connection ── BudgetShare ──┐
//   connection ── BudgetShare ──┼── MemoryBudget: a line, for who needs more than there is
//   connection ── BudgetShare ──┘
//
// Every connection has kOwnBytes for itself, which nobody can take from it: a small request goes
// ahead whatever others hold. What it needs beyond that it takes from the budget, or waits in line.
// So memory is bounded by the budget and kOwnBytes per connection; and nothing can deadlock,
// because a request has all that it needs before it starts. In line, those of the origin (user,
// host) that holds least come first: however many connections one of them opens, another one's
// request is the next to be served. Of one origin's those come first whose connection will hold
// least, else who came first: on unix sockets all guests may be one user, and who sends half of a
// long request must not make the others wait for it. When as much as the whole budget has gone past
// the first one of an origin, it is its turn, so nobody starves. Who holds memory without giving
// any back while others wait is found by StallWatch: a client that does not read must not take from
// others what they need.
//
// Nor must a disk whose store does not answer (I10): beyond its first request a disk's clients may
// hold no more than they leave free, so that one such disk takes half of the budget, two a third
// each, and there is always as much left for another one (dynamic thresholds: Choudhury and Hahne,
// 1998). Those who wait because of their own disk are passed by the others.
//
// A share takes and gives in steps, so that most requests touch nothing that loops share. An idle
// connection holds nothing. A request larger than the whole budget is admitted when nobody holds
// anything. Thread rules: MemoryBudget any thread; a BudgetShare its connection's loop.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "blockmig/io/event_loop.h"

namespace blockmig::nbd {

class BudgetShare;

/// All connections of one StreamPeer::origin, or to one disk. Made, counted and removed under the
/// budget's lock.
struct BudgetGroup {
  std::atomic<std::uint64_t> held_bytes = 0;
  std::uint64_t overtaken_bytes = 0;  ///< granted past the one that has waited longest
  std::uint32_t shares = 0;
};

/// What a connection belongs to.
struct BudgetGroups {
  BudgetGroup& origin;
  BudgetGroup& disk;
};

class MemoryBudget final {
 public:
  explicit MemoryBudget(std::uint64_t bytes) : capacity_(bytes) {}
  ~MemoryBudget();
  MemoryBudget(const MemoryBudget&) = delete;
  MemoryBudget& operator=(const MemoryBudget&) = delete;

  std::uint64_t used() const { return used_.load(); }
  bool has_waiters() const { return waiting_.load() != 0; }
  /// Since when the first in line waits.
  std::optional<TimePoint> waiting_since() const;

 private:
  friend class BudgetShare;
  /// A place in line. `owner` is touched on the owner's loop only, the rest under the lock.
  struct Ticket {
    EventLoop& loop;
    const std::uint64_t bytes;
    const std::uint64_t in_all;  ///< what the connection holds then
    const TimePoint since;
    const BudgetGroups groups;
    BudgetShare* owner;
    bool granted = false;
  };

  using Line = std::deque<std::shared_ptr<Ticket>>;
  using Groups = std::map<std::string, BudgetGroup>;

  BudgetGroups join(const std::string& origin, const std::string& disk);
  void leave(const std::string& origin, const std::string& disk);
  /// False while somebody is in line.
  bool try_take(const BudgetGroups& groups, std::uint64_t bytes);
  void give(const BudgetGroups& groups, std::uint64_t bytes);
  void enter_line(std::shared_ptr<Ticket> ticket);
  /// True if it was still in line; false if its bytes have been granted.
  bool leave_line(const std::shared_ptr<Ticket>& ticket);
  bool take_if_room(const BudgetGroups& groups, std::uint64_t bytes);
  /// False: the disk holds too much already to hold `bytes` more beside the `used` ones.
  bool is_disks_due(const BudgetGroup& disk, std::uint64_t used, std::uint64_t bytes) const;
  bool has_waited_long(const Ticket& ticket) const;
  Line::iterator next_in_line();
  void grant_to_waiters();

  const std::uint64_t capacity_;
  std::atomic<std::uint64_t> used_ = 0;
  std::atomic<std::uint32_t> waiting_ = 0;
  mutable std::mutex lock_;
  Line line_;  ///< who came first is first
  Groups origins_;
  Groups disks_;
};

/// What one connection holds of the budget. Destroying it gives everything back.
class BudgetShare final {
 public:
  static constexpr std::uint64_t kOwnBytes = 64 * 1024;
  static constexpr std::uint64_t kStepBytes = 256 * 1024;

  /// `budget` may be null: nothing is limited. `origin`: where the connection comes from; `disk`:
  /// where it leads. `on_granted` runs on the loop when a cover() that said false may be asked
  /// again.
  BudgetShare(EventLoop& loop, MemoryBudget* budget, std::string origin, std::string disk,
              std::function<void()> on_granted);
  ~BudgetShare();
  BudgetShare(const BudgetShare&) = delete;
  BudgetShare& operator=(const BudgetShare&) = delete;

  /// True if the connection may hold `bytes` in all. If not it is in line for what is missing.
  bool cover(std::uint64_t bytes);
  /// The connection holds no more than `bytes` in all now: gives the rest back.
  void shrink_to(std::uint64_t bytes);
  /// Taken from the budget, beyond kOwnBytes.
  std::uint64_t held() const { return held_; }

 private:
  friend class MemoryBudget;
  void granted();
  void leave_line();

  EventLoop& loop_;
  MemoryBudget* const budget_;
  const std::string origin_;
  const std::string disk_;
  std::function<void()> on_granted_;
  std::optional<BudgetGroups> groups_;  ///< none without a budget
  std::uint64_t held_ = 0;
  std::shared_ptr<MemoryBudget::Ticket> ticket_;
};

}  // namespace blockmig::nbd

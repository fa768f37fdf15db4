// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/memory_budget.h"

#include <algorithm>
#include <set>
#include <utility>

#include "blockmig/base/check.h"

namespace blockmig::nbd {

MemoryBudget::~MemoryBudget() { BM_CHECK(used_.load() == 0 && line_.empty()); }

std::optional<TimePoint> MemoryBudget::waiting_since() const {
  if (!has_waiters()) return std::nullopt;
  const std::lock_guard<std::mutex> guard(lock_);
  if (line_.empty()) return std::nullopt;
  return line_.front()->since;
}

BudgetGroups MemoryBudget::join(const std::string& origin, const std::string& disk) {
  const std::lock_guard<std::mutex> guard(lock_);
  const BudgetGroups joined{origins_[origin], disks_[disk]};
  ++joined.origin.shares;
  ++joined.disk.shares;
  return joined;
}

void MemoryBudget::leave(const std::string& origin, const std::string& disk) {
  const std::lock_guard<std::mutex> guard(lock_);
  for (const auto& [groups, name] : {std::pair(&origins_, &origin), std::pair(&disks_, &disk)}) {
    const auto left = groups->find(*name);
    if (--left->second.shares == 0) groups->erase(left);
  }
}

bool MemoryBudget::is_disks_due(const BudgetGroup& disk, std::uint64_t used,
                                std::uint64_t bytes) const {
  const std::uint64_t held = disk.held_bytes.load(std::memory_order_relaxed);
  return held == 0 || held + bytes <= capacity_ - std::min(capacity_, used + bytes);
}

bool MemoryBudget::take_if_room(const BudgetGroups& groups, std::uint64_t bytes) {
  std::uint64_t used = used_.load();
  do {
    if (used != 0 && (bytes > capacity_ || used > capacity_ - bytes)) return false;
    if (!is_disks_due(groups.disk, used, bytes)) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes));
  groups.origin.held_bytes.fetch_add(bytes, std::memory_order_relaxed);
  groups.disk.held_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool MemoryBudget::try_take(const BudgetGroups& groups, std::uint64_t bytes) {
  return !has_waiters() && take_if_room(groups, bytes);
}

void MemoryBudget::give(const BudgetGroups& groups, std::uint64_t bytes) {
  if (bytes == 0) return;
  groups.origin.held_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  groups.disk.held_bytes.fetch_sub(bytes, std::memory_order_relaxed);
  const std::uint64_t before = used_.fetch_sub(bytes);
  BM_CHECK(before >= bytes);
  // Sequentially consistent, as enter_line() is: either we see who waits, or he sees the room.
  if (!has_waiters()) return;
  const std::lock_guard<std::mutex> guard(lock_);
  grant_to_waiters();
}

void MemoryBudget::enter_line(std::shared_ptr<Ticket> ticket) {
  const std::lock_guard<std::mutex> guard(lock_);
  line_.push_back(std::move(ticket));
  waiting_.fetch_add(1);
  grant_to_waiters();
}

bool MemoryBudget::leave_line(const std::shared_ptr<Ticket>& ticket) {
  const std::lock_guard<std::mutex> guard(lock_);
  if (ticket->granted) return false;
  std::erase(line_, ticket);
  waiting_.fetch_sub(1);
  grant_to_waiters();  // the next one may need less
  return true;
}

bool MemoryBudget::has_waited_long(const Ticket& ticket) const {
  return ticket.groups.origin.overtaken_bytes >= capacity_;
}

/// Of those whose disks may hold more now. Whose turn it is, and who is held up by his own disk,
/// holds up the others of that disk until enough of its requests have ended.
MemoryBudget::Line::iterator MemoryBudget::next_in_line() {
  const auto rank = [this](const Ticket& ticket) {
    return std::pair(ticket.groups.origin.held_bytes.load(std::memory_order_relaxed),
                     has_waited_long(ticket) ? 0 : ticket.in_all);
  };
  std::set<const BudgetGroup*> held_up;
  auto next = line_.end();
  for (auto at = line_.begin(); at != line_.end(); ++at) {
    const Ticket& ticket = **at;
    const BudgetGroup& disk = ticket.groups.disk;
    if (held_up.contains(&disk)) continue;
    if (!is_disks_due(disk, used_.load(), ticket.bytes)) {
      if (has_waited_long(ticket)) held_up.insert(&disk);
      continue;
    }
    if (next == line_.end() || rank(ticket) < rank(**next)) next = at;
  }
  return next;
}

void MemoryBudget::grant_to_waiters() {
  for (;;) {
    const auto next = next_in_line();
    if (next == line_.end()) return;
    const BudgetGroups groups = (*next)->groups;
    if (!take_if_room(groups, (*next)->bytes)) return;
    const bool overtakes = std::any_of(line_.begin(), next, [&groups](const auto& earlier) {
      return &earlier->groups.origin == &groups.origin;
    });
    BudgetGroup& origin = groups.origin;
    origin.overtaken_bytes = overtakes ? origin.overtaken_bytes + (*next)->bytes : 0;
    const std::shared_ptr<Ticket> ticket = std::move(*next);
    line_.erase(next);
    waiting_.fetch_sub(1);
    ticket->granted = true;
    ticket->loop.post([ticket] {
      if (ticket->owner != nullptr) ticket->owner->granted();
    });
  }
}

BudgetShare::BudgetShare(EventLoop& loop, MemoryBudget* budget, std::string origin,
                         std::string disk, std::function<void()> on_granted)
    : loop_(loop),
      budget_(budget),
      origin_(std::move(origin)),
      disk_(std::move(disk)),
      on_granted_(std::move(on_granted)) {
  if (budget_ != nullptr) groups_.emplace(budget_->join(origin_, disk_));
}

BudgetShare::~BudgetShare() {
  if (budget_ == nullptr) return;
  leave_line();
  budget_->give(*groups_, held_);
  budget_->leave(origin_, disk_);
}

bool BudgetShare::cover(std::uint64_t bytes) {
  if (budget_ == nullptr || bytes <= kOwnBytes + held_) {
    leave_line();
    return true;
  }
  if (ticket_ != nullptr) return false;
  const std::uint64_t missing = bytes - kOwnBytes - held_;
  const std::uint64_t rounded = (missing + kStepBytes - 1) / kStepBytes * kStepBytes;
  for (const std::uint64_t wanted : {rounded, missing}) {
    if (!budget_->try_take(*groups_, wanted)) continue;
    held_ += wanted;
    return true;
  }
  ticket_ = std::make_shared<MemoryBudget::Ticket>(
      MemoryBudget::Ticket{loop_, missing, held_ + missing, loop_.now(), *groups_, this});
  budget_->enter_line(ticket_);
  return false;
}

void BudgetShare::granted() {
  held_ += ticket_->bytes;
  ticket_->owner = nullptr;
  ticket_.reset();
  on_granted_();
}

void BudgetShare::leave_line() {
  if (ticket_ == nullptr) return;
  const std::shared_ptr<MemoryBudget::Ticket> ticket = std::exchange(ticket_, nullptr);
  ticket->owner = nullptr;
  // Granted, but the news had not arrived: nobody else will give it back.
  if (!budget_->leave_line(ticket)) budget_->give(*groups_, ticket->bytes);
}

void BudgetShare::shrink_to(std::uint64_t bytes) {
  if (held_ == 0) return;
  const std::uint64_t needed = bytes > kOwnBytes ? bytes - kOwnBytes : 0;
  // While it is busy it keeps a step for the next request, unless somebody waits.
  const std::uint64_t spare = needed == 0 || budget_->has_waiters() ? 0 : kStepBytes;
  if (held_ <= needed + spare) return;
  const std::uint64_t given = held_ - needed - spare;
  held_ -= given;
  budget_->give(*groups_, given);
}

}  // namespace blockmig::nbd

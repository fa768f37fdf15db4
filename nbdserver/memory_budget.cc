// SPDX-License-Identifier: Apache-2.0
#include "nbdserver/memory_budget.h"

#include <algorithm>
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

BudgetOrigin& MemoryBudget::join(const std::string& origin) {
  const std::lock_guard<std::mutex> guard(lock_);
  BudgetOrigin& joined = origins_[origin];
  ++joined.shares;
  return joined;
}

void MemoryBudget::leave(const std::string& origin) {
  const std::lock_guard<std::mutex> guard(lock_);
  const auto left = origins_.find(origin);
  if (--left->second.shares == 0) origins_.erase(left);
}

bool MemoryBudget::take_if_room(BudgetOrigin& origin, std::uint64_t bytes) {
  std::uint64_t used = used_.load();
  do {
    if (used != 0 && (bytes > capacity_ || used > capacity_ - bytes)) return false;
  } while (!used_.compare_exchange_weak(used, used + bytes));
  origin.held_bytes.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool MemoryBudget::try_take(BudgetOrigin& origin, std::uint64_t bytes) {
  return !has_waiters() && take_if_room(origin, bytes);
}

void MemoryBudget::give(BudgetOrigin& origin, std::uint64_t bytes) {
  if (bytes == 0) return;
  origin.held_bytes.fetch_sub(bytes, std::memory_order_relaxed);
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

void MemoryBudget::grant_to_waiters() {
  const auto rank = [this](const Ticket& ticket) {
    const bool in_order = ticket.origin.overtaken_bytes >= capacity_;
    return std::pair(ticket.origin.held_bytes.load(std::memory_order_relaxed),
                     in_order ? 0 : ticket.in_all);
  };
  const auto goes_before = [&rank](const auto& a, const auto& b) { return rank(*a) < rank(*b); };
  for (;;) {
    const auto next = std::min_element(line_.begin(), line_.end(), goes_before);
    if (next == line_.end()) return;
    BudgetOrigin& origin = (*next)->origin;
    if (!take_if_room(origin, (*next)->bytes)) return;
    const bool overtakes = std::any_of(line_.begin(), next, [&origin](const auto& earlier) {
      return &earlier->origin == &origin;
    });
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
                         std::function<void()> on_granted)
    : loop_(loop),
      budget_(budget),
      origin_name_(std::move(origin)),
      on_granted_(std::move(on_granted)) {
  if (budget_ != nullptr) origin_ = &budget_->join(origin_name_);
}

BudgetShare::~BudgetShare() {
  if (budget_ == nullptr) return;
  leave_line();
  budget_->give(*origin_, held_);
  budget_->leave(origin_name_);
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
    if (!budget_->try_take(*origin_, wanted)) continue;
    held_ += wanted;
    return true;
  }
  ticket_ = std::make_shared<MemoryBudget::Ticket>(
      MemoryBudget::Ticket{loop_, missing, held_ + missing, loop_.now(), *origin_, this});
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
  if (!budget_->leave_line(ticket)) budget_->give(*origin_, ticket->bytes);
}

void BudgetShare::shrink_to(std::uint64_t bytes) {
  if (held_ == 0) return;
  const std::uint64_t needed = bytes > kOwnBytes ? bytes - kOwnBytes : 0;
  // While it is busy it keeps a step for the next request, unless somebody waits.
  const std::uint64_t spare = needed == 0 || budget_->has_waiters() ? 0 : kStepBytes;
  if (held_ <= needed + spare) return;
  const std::uint64_t given = held_ - needed - spare;
  held_ -= given;
  budget_->give(*origin_, given);
}

}  // namespace blockmig::nbd

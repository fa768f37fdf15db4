// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/bandwidth_pool.h"

#include <algorithm>

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

/// A turn is worth a twentieth of a second of the whole rate.
constexpr std::uint64_t kTurnsPerSecond = 20;

Duration to_duration(double seconds) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

std::uint32_t weight_of(Priority priority) {
  switch (priority) {
    case Priority::kLow:
      return 1;
    case Priority::kNormal:
      return 4;
    case Priority::kHigh:
      return 16;
  }
  return 1;
}

BandwidthPool::~BandwidthPool() { BM_CHECK(shares_.empty()); }

void BandwidthPool::set_rate(std::uint64_t bytes_per_second) {
  if (rate_ == bytes_per_second) return;
  const TimePoint now = loop_.now();
  if (bytes_per_second != 0 && rate_ != 0 && free_at_ > now) {
    // The debt in bytes stays; how long it takes to pay changes.
    const double debt_seconds = std::chrono::duration<double>(free_at_ - now).count();
    free_at_ = now + to_duration(debt_seconds * static_cast<double>(rate_) /
                                 static_cast<double>(bytes_per_second));
  } else {
    free_at_ = now;
  }
  rate_ = bytes_per_second;
  changed_.pulse();
}

/// Of those who wait, the one that is furthest behind.
const BandwidthShare* BandwidthPool::next() const {
  const auto behind = [](const BandwidthShare* a, const BandwidthShare* b) {
    return a->start_ < b->start_;
  };
  const auto found = std::min_element(waiting_.begin(), waiting_.end(), behind);
  return found == waiting_.end() ? nullptr : *found;
}

void BandwidthPool::add_debt(std::uint64_t bytes) {
  if (rate_ == 0) return;
  const double seconds = static_cast<double>(bytes) / static_cast<double>(rate_);
  free_at_ = std::max(free_at_, loop_.now()) + to_duration(seconds);
}

BandwidthShare::BandwidthShare(BandwidthPool& pool, Priority priority)
    : pool_(pool), priority_(priority) {
  pool_.shares_.push_back(this);
}

BandwidthShare::~BandwidthShare() {
  BM_CHECK(!waiting_);
  std::erase(pool_.shares_, this);
}

double BandwidthShare::start() const { return std::max(pool_.virtual_time_, finish_); }

Task<void> BandwidthShare::wait_turn() {
  BM_CHECK(!waiting_);
  turn_ = false;
  if (!limited()) co_return;
  start_ = start();
  waiting_ = true;
  pool_.waiting_.push_back(this);
  while (limited() && (pool_.next() != this || pool_.free_at_ > pool_.loop_.now())) {
    // Who is not next is told when that changes.
    const TimePoint until = pool_.next() == this ? pool_.free_at_ : TimePoint::max();
    co_await pool_.changed_.wait_until(until);
  }
  waiting_ = false;
  turn_ = true;
  std::erase(pool_.waiting_, this);
  pool_.changed_.pulse();
}

void BandwidthShare::charge(std::uint64_t bytes) {
  copied_ = true;
  copied_at_ = pool_.loop_.now();
  if (!limited()) return;
  const double from = turn_ ? start_ : start();
  // Who has not waited does not move the others.
  if (turn_) pool_.virtual_time_ = std::max(pool_.virtual_time_, from);
  turn_ = false;
  finish_ = std::max(finish_, from) + static_cast<double>(bytes) / weight_of(priority_);
  pool_.add_debt(bytes);
}

std::uint64_t BandwidthShare::turn_bytes() const {
  if (!limited()) return ~std::uint64_t{0};
  return std::max<std::uint64_t>(pool_.rate_ / kTurnsPerSecond, 1);
}

void BandwidthShare::release() {
  released_ = true;
  pool_.changed_.pulse();
}

bool BandwidthShare::copies() const {
  return !released_ && copied_ && pool_.loop_.now() - copied_at_ < BandwidthPool::kIdle;
}

std::uint32_t BandwidthShare::depth(std::uint32_t most) const {
  if (pool_.rate_ != 0) return most;
  std::uint32_t heaviest = weight_of(priority_);
  for (const BandwidthShare* const share : pool_.shares_) {
    if (share->copies()) heaviest = std::max(heaviest, weight_of(share->priority_));
  }
  const auto part = std::uint64_t{most} * weight_of(priority_) / heaviest;
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(part, 1));
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// What is wrong with stores, and what happens to a target while a job runs.
#include "world.h"

namespace blockmig::sim {

void World::plan_faults(FaultDevice& target) {
  FaultPlan& plan = target.plan();
  if (random_.chance(1, 3))
    plan.write_error_ppm = static_cast<std::uint32_t>(random_.below(50'000));
  if (random_.chance(1, 3)) plan.read_error_ppm = static_cast<std::uint32_t>(random_.below(20'000));
  if (random_.chance(1, 4)) plan.max_delay = std::chrono::milliseconds(random_.between(5, 80));
  if (random_.chance(1, 4)) plan.bytes_per_second = random_.between(200, 20'000) * kKiB;
  if (has_slow_requests()) {
    // As a disk that remaps a sector now and then: what is mirrored times out, and what comes later
    // overtakes it (trap 15).
    plan.bytes_per_second = 0;
    plan.max_delay = std::chrono::milliseconds(1);
    plan.write_error_ppm = 0;
    plan.slow_ppm = 100'000;
    plan.slow_delay = std::chrono::milliseconds(5 + options_.seed % 60);
  }
  if (random_.chance(1, 3)) {
    source_may_fail_ = true;
    owner_->plan().write_error_ppm = static_cast<std::uint32_t>(random_.below(20'000));
    owner_->plan().read_error_ppm = static_cast<std::uint32_t>(random_.below(10'000));
  }
}

void World::heal() {
  for (const auto& store : stores_) {
    store->unstall();
    store->plan().write_error_ppm = store->plan().read_error_ppm = 0;
    store->plan().flush_error_ppm = 0;
    store->plan().flush_delay = {};
    store->plan().space_bytes = UINT64_MAX;
    store->reconnect();
    store->plan().lost_write_ppm = store->plan().torn_write_ppm = 0;
    store->plan().misdirected_write_ppm = 0;
    store->plan().bytes_per_second = store->plan().slow_ppm = 0;
    store->plan().max_delay = std::chrono::milliseconds(1);
    store->plan().min_delay = std::chrono::microseconds(1);
  }
}

/// All that befalls a job and its stores.
void World::trouble_job(const std::string& job) {
  auto disturbance = disturb(job, target_);
  disturbances_.spawn(std::move(disturbance));
  if (random_.chance(1, 2)) {
    auto troubles = trouble(job, target_);
    disturbances_.spawn(std::move(troubles));
  }
  trouble_stores(job);
}

/// The target's own troubles: a broken connection that loses what was not flushed, flushes that
/// fail, no room. Each ends, and the job is to go on by itself. Not while the decision may be under
/// way: a store that fails then is the guest's.
Task<void> World::trouble(std::string job, std::shared_ptr<FaultDevice> target) {
  const std::uint64_t count = random_.between(1, 3);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 100'000));
    co_await sleep_for(loop_, wait);
    if (crashed_) co_return;
    const auto status = board_->status(job);
    if (!status.ok() || is_final(status->state) || status->switched) co_return;
    if (disk_->gate().state() != Gate::State::kOpen) continue;
    const Duration lasts = std::chrono::microseconds(random_.between(1, 300'000));
    switch (random_.below(3)) {
      case 0:
        note("disconnected");
        target->disconnect();
        co_await sleep_for(loop_, lasts);
        target->reconnect();
        break;
      case 1:
        note("flushes fail");
        target->plan().flush_error_ppm = random_.chance(1, 2) ? 1'000'000 : 300'000;
        co_await sleep_for(loop_, lasts);
        target->plan().flush_error_ppm = 0;
        break;
      default:
        note("no room");
        target->plan().space_bytes = random_.below(size_bytes_);
        co_await sleep_for(loop_, lasts);
        target->plan().space_bytes = UINT64_MAX;
    }
  }
}

}  // namespace blockmig::sim

// SPDX-License-Identifier: Apache-2.0
// What happens to a disk that is settled: to its overlay, to the image, to its job.
#include "settle_world.h"

namespace blockmig::sim {
namespace {

const std::string kDisk = "disk";

}  // namespace

void SettleWorld::plan_faults() {
  heal();
  overlay_fails_ = false;
  for (FaultDevice* const store : {overlay_.get(), folder_.image.get()}) {
    FaultPlan& plan = store->plan();
    plan.max_delay = std::chrono::microseconds(random_.between(100, 4000));
    if (random_.chance(1, 4)) plan.max_delay = std::chrono::milliseconds(random_.between(5, 60));
    if (random_.chance(1, 4)) {
      plan.write_error_ppm = static_cast<std::uint32_t>(random_.below(30'000));
      if (store == overlay_.get()) overlay_fails_ = true;
    }
    if (random_.chance(1, 3)) {
      plan.read_error_ppm = static_cast<std::uint32_t>(random_.below(50'000));
      overlay_fails_ = true;  // what is at rest is the disk's, too
    }
  }
  // Now and then, for as long as it is only the target: each time it is opened anew.
  if (random_.chance(1, 3)) folder_.image->plan().flush_error_ppm = 300'000;
  journal_.save_error_ppm = random_.chance(1, 8) ? 200'000 : 0;
  if (journal_.save_error_ppm != 0) overlay_fails_ = true;  // it knows what is present
}

void SettleWorld::heal() {
  for (FaultDevice* const store : {overlay_.get(), folder_.image.get()}) {
    store->unstall();
    store->plan() = FaultPlan();
    store->plan().min_delay = std::chrono::microseconds(1);
    store->plan().max_delay = std::chrono::milliseconds(1);
  }
  journal_.save_error_ppm = 0;
}

Task<void> SettleWorld::fill_up(FaultDevice& store, Duration lasts) {
  note("no room for " + store.info().name);
  if (&store == overlay_.get()) overlay_fails_ = true;
  store.plan().space_bytes = random_.below(size_bytes_);
  co_await sleep_for(loop_, lasts);
  store.plan().space_bytes = UINT64_MAX;
}

Task<void> SettleWorld::fail_flushes(FaultDevice& store, Duration lasts) {
  note("flushes fail of " + store.info().name);
  if (&store == overlay_.get()) overlay_fails_ = true;
  store.plan().flush_error_ppm = random_.chance(1, 2) ? 1'000'000 : 300'000;
  co_await sleep_for(loop_, lasts);
  store.plan().flush_error_ppm = 0;
}

Task<void> SettleWorld::freeze(FaultDevice& store, Duration lasts) {
  note("stall of " + store.info().name);
  overlay_fails_ = true;  // who fetches has a patience
  store.stall();
  co_await sleep_for(loop_, lasts);
  store.unstall();
}

Task<void> SettleWorld::disturb(Death death, std::shared_ptr<Life> life, JobBoard& board) {
  const std::uint64_t count = random_.below(4);
  for (std::uint64_t i = 0; i < count; ++i) {
    const Duration wait = std::chrono::microseconds(random_.between(1, 60000));
    co_await sleep_for(loop_, wait);
    if (life->over) co_return;
    const std::string job = board.job_of(kDisk);
    if (!job.empty() && random_.chance(1, 4)) {
      const Status aborted = board.abort(job);
      note(aborted.ok() ? "aborted" : "abort refused");
      continue;
    }
    FaultDevice& store = random_.chance(1, 2) ? *folder_.image : *overlay_;
    const Duration lasts = std::chrono::milliseconds(random_.between(1, 400));
    const std::uint64_t what = random_.below(4);
    if (what == 0) co_await fill_up(store, lasts);
    // Nothing less than a power loss makes a store that nobody opens again forget that a flush has
    // failed.
    const bool may_forget = &store == folder_.image.get() || death == Death::kPowerLoss;
    if ((what == 1 || what == 3) && may_forget) co_await fail_flushes(store, lasts);
    if (what == 2) co_await freeze(store, lasts);
  }
}

}  // namespace blockmig::sim

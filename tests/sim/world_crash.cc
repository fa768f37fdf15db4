// SPDX-License-Identifier: Apache-2.0
// The daemon's end and restart in a world.
//
// A crash cuts every store and the journal off from the daemon at one instant: what was under way
// there is decided by lot, nothing that the old daemon does afterwards has any effect, and what its
// guests hear is not believed. So the old daemon may end by its ordinary ways of failure, and
// leaves nothing behind. Then a new one starts from the journal's records.
#include <utility>

#include "blockmig/migrate/checkpoint.h"
#include "blockmig/migrate/hydration.h"
#include "blockmig/migrate/pivot.h"
#include "blockmig/migrate/unfinished_jobs.h"
#include "sim_at_rest.h"
#include "world.h"

namespace blockmig::sim {

/// Falls somewhere in the next moments; between any two events, also those of one instant.
Task<void> World::crash_later(Duration within) {
  const auto most = std::chrono::duration_cast<std::chrono::microseconds>(within).count();
  const Duration wait =
      std::chrono::microseconds(random_.between(1, static_cast<std::uint64_t>(most)));
  co_await sleep_for(loop_, wait);
  for (std::uint64_t i = random_.below(4); i > 0; --i) {
    const Duration yield{};
    co_await sleep_for(loop_, yield);
  }
  if (ended_ || crashed_ || guest_ == nullptr) co_return;
  if (random_.chance(1, 5)) {
    co_await end_in_order();
  } else {
    crash(random_.chance(1, 2));
  }
}

/// As `blockmig stop`: moves are left to the next daemon; guests are served until the last of the
/// moves has ended here, and a while longer.
Task<void> World::end_in_order() {
  note("END IN ORDER");
  power_lost_ = false;
  crashed_ = leaving_ = true;
  ++result_.ends;
  co_await board_->stop(JobBoard::AtStop::kSuspend);
  const Duration rest = std::chrono::microseconds(random_.between(0, 20'000));
  co_await sleep_for(loop_, rest);
  guest_->cut();
  if (instant_ != 0) history_.end_read(std::exchange(instant_, 0));
  leaving_ = false;
}

void World::crash(bool power_loss) {
  power_lost_ = power_loss;
  // In mid-hydration without the reverse mirror a kill, too, loses what was not flushed.
  const auto* const layer = disk_ ? hydrating_layer(*disk_) : nullptr;
  if (layer != nullptr && !layer->mirrors_back()) power_lost_ = true;
  // Nothing less makes a store forget that a flush has failed.
  if (source_lost_ || owner_->flush_failed()) power_lost_ = true;
  note(power_lost_ ? "POWER LOSS" : "KILL");
  crashed_ = true;
  ++result_.crashes;
  journal_.alive = owners_.alive = false;
  if (guest_) guest_->cut();
  if (instant_ != 0) history_.end_read(std::exchange(instant_, 0));
  for (const auto& store : stores_) {
    if (power_lost_) store->crash();
    store->abandon();
  }
}

void World::forget_guest() {
  if (!guest_->violation().empty()) complain(guest_->violation());
  result_.guest_requests += guest_->requests();
  result_.guest_errors += guest_->errors();
  flush_errors_ += guest_->flush_errors();
  guest_.reset();
}

Task<void> World::bury_daemon() {
  while (leaving_) co_await sleep_for(loop_, std::chrono::milliseconds(1));
  co_await workers_->join();
  co_await disturbances_.join();
  if (!disk_) co_return;  // it died while it started
  co_await board_->stop();
  co_await board_->leave_disks();
  co_await discard(*disk_, std::move(unresumed_));
  if (keeper_) co_await keeper_->abandon();
  const bool overlay = on_overlay();
  const Status closed = co_await disk_->close();
  // What was written and not flushed is on an overlay that nobody knows to have it.
  if (overlay && !closed.ok()) source_lost_ = true;
  if (guest_) forget_guest();
  board_.reset();
  keeper_.reset();
  disk_.reset();
}

/// After a power loss every sector holds what survived, and from now on nothing else.
void World::settle_survivors() {
  for (std::uint64_t sector = 0; sector < history_.sectors(); ++sector) {
    const auto value = survivor(sector);
    if (!value) return;
    history_.start_again(sector, *value);
  }
}

/// After a kill the page cache has everything that was acknowledged, whatever a power loss does to
/// it later.
void World::check_kept() {
  const History before = history_;
  history_.acknowledge_flush(history_.tick());
  for (std::uint64_t sector = 0; sector < history_.sectors(); ++sector) {
    if (!survivor(sector)) break;
  }
  history_ = before;
}

Task<void> World::restart() {
  co_await bury_daemon();
  heal();
  if (std::exchange(source_lost_, false) || owner_->flush_failed()) {
    power_lost_ = true;
    for (const auto& store : stores_) store->crash();
  }
  for (const auto& store : stores_) store->reopen();
  journal_.alive = owners_.alive = true;
  journal_.save_error_ppm = 0;
  journal_.reopen();
  owner_unknown_ = false;
  const auto found = co_await journal_.load_disk("disk");
  crashed_ = false;
  DiskRecord record;
  record.store_uri = "sim:" + stores_.front()->info().name;
  record.epoch = 1;
  if (found.ok() && found->has_value()) record = **found;
  owner_ = find_store(record.store_uri.substr(4));
  decided_epoch_ = record.epoch;
  hydration_ = record.hydration;
  note("restart on " + record.store_uri + (hydration_.empty() ? "" : ", in mid-hydration"));
  if (power_lost_) {
    settle_survivors();
  } else {
    check_kept();
  }
  HydratingDevice* device = nullptr;
  if (hydration_.empty()) {
    // Whole in its own store: what was published for a decision that never came goes.
    SimManifest& manifest = manifests_[owner_->info().name];
    if (manifest.changing) manifest = {};
    open_daemon(record.epoch);
  } else {
    device = co_await open_in_mid_hydration(record);
    if (device == nullptr || crashed_) co_return;
  }
  const std::string refused = owners_.restart(owner_->info().name, record.epoch);
  if (!refused.empty()) complain(refused + " (I3)");
  const Status loaded = co_await board_->load();
  if (!loaded.ok()) blame("the journal cannot be read: " + loaded.error().message());
  if (crashed_) co_return;
  if (device != nullptr && !on_overlay()) {
    co_await go_on_hydrating(device);
    co_return;
  }
  const auto left = co_await journal_.load_hydration("disk");
  if (device == nullptr && left.ok() && left->has_value()) {
    const HydrationRecord rest = **left;
    co_await forget_rest(journal_, rest);
  }
  const auto jobs = co_await journal_.load_jobs();
  if (crashed_) co_return;
  std::optional<JobRecord> unfinished = find_unfinished(*jobs);
  co_await take_up(std::move(unfinished));
}

std::optional<JobRecord> World::find_unfinished(const std::vector<JobRecord>& jobs) {
  const std::vector<JobRecord> open = blockmig::find_unfinished(jobs).open;
  if (open.size() > 1) complain("jobs before the disk's latest one are to go on (I7)");
  for (const JobRecord& job : open) {
    if (job.target_uri == "sim:" + owner_->info().name) {
      complain(job.id + ", whose target owns the disk, is recorded as " + job.state + " (I7)");
    }
    return job;
  }
  return std::nullopt;
}

/// Serves the disk, and goes on with the move that the crash interrupted.
Task<void> World::take_up(std::optional<JobRecord> unfinished) {
  RecoveredTracking recovered;
  if (unfinished && planned_[unfinished->id].options.on_restart != OnRestart::kAbort) {
    const std::string id = unfinished->id;
    auto found = co_await recover(journal_, *disk_, id, loop_);
    if (!found.ok()) blame("recovering: " + found.error().message());
    if (found.ok()) recovered = std::move(*found);
    if (!recovered.empty()) ++result_.recovered;
  }
  co_await reopen_keeper();
  if (crashed_) {
    unresumed_ = std::move(recovered);
    co_return;
  }
  start_guest();
  if (!unfinished) co_return;
  const Duration wait = std::chrono::microseconds(random_.between(0, 20000));
  co_await sleep_for(loop_, wait);  // the disk is served before its job is resumed
  co_await resume_job(*unfinished, std::move(recovered));
}

/// A disk that is in two stores, as the daemon opens it. Null: a violation.
Task<HydratingDevice*> World::open_in_mid_hydration(DiskRecord record) {
  const auto rest = co_await load_rest(journal_, record);
  if (!rest.ok()) {
    blame(rest.error().message());
    co_return nullptr;
  }
  JobOptions& options = planned_[rest->job].options;
  const Mode asked = options.mode;
  options = options_of(*rest);
  options.mode = asked;
  std::unique_ptr<BlockDevice> local = std::make_unique<SharedDevice>(owner_);
  std::unique_ptr<BlockDevice> base = co_await open_base(*rest);
  if (base == nullptr) co_return nullptr;
  auto opened = co_await open_hydrating(loop_, journal_, record, *rest, local, base, options);
  if (!opened.ok()) {
    blame("a disk in mid-hydration cannot be opened: " + opened.error().message());
    co_return nullptr;
  }
  HydratingDevice* const device = opened->get();
  disk_ = std::make_unique<Disk>(loop_, "disk", std::move(*opened), record.store_uri, record.epoch);
  board_ = std::make_unique<JobBoard>(loop_, journal_);
  make_keeper();
  co_return device;
}

Task<std::unique_ptr<BlockDevice>> World::open_base(const HydrationRecord& rest) {
  const auto image = find_store(rest.base_uri.substr(4));
  std::unique_ptr<BlockDevice> base = std::make_unique<SharedDevice>(image);
  if (rest.base_generation == 0) co_return base;
  SimAtRest at_rest(loop_, image, manifests_[image->info().name]);
  const Status opened = co_await at_rest.open_base();
  if (!opened.ok()) blame("data at rest cannot be opened: " + opened.error().message());
  co_return at_rest.take_base();
}

Task<void> World::go_on_hydrating(HydratingDevice* device) {
  const std::string job = device->record().job;
  co_await reopen_keeper();
  if (crashed_) co_return;
  start_guest();
  target_ = owner_;
  const auto started = board_->hydrate(*disk_, *device, planned_[job].options);
  if (!started.ok()) {
    complain("hydration does not go on: " + started.error().message());
    co_return;
  }
  ++result_.resumed;
  co_await see_job_through(job);
}

Task<void> World::resume_job(JobRecord record, RecoveredTracking recovered) {
  const Planned& planned = planned_[record.id];
  if (planned.options.on_restart == OnRestart::kAbort) {
    record.state = "aborted";
    JournalBatch batch;
    batch.jobs.push_back(record);
    batch.removed_sets = records_of("disk", record.id);
    const Status saved = co_await journal_.commit(batch);
    if (!saved.ok() && !crashed_)
      complain("an aborted job is not recorded: " + saved.error().message());
    co_return;
  }
  target_ = planned.target;
  target_->mutable_info().zero_initialised = false;  // it was written to
  if (!options_.sweep) plan_faults(*target_);
  if (options_.seed % 5 == 2) away_ = 3;
  auto opener = make_opener(target_);
  const auto job =
      board_->resume_recorded(*disk_, std::move(opener), planned.options, record, recovered);
  if (!job.ok() && crashed_) {
    unresumed_ = std::move(recovered);  // the next daemon's
    co_return;
  }
  if (!job.ok()) {
    complain("a job did not resume: " + job.error().message());
    co_return;
  }
  note("resumed " + *job);
  ++result_.resumed;
  co_await see_job_through(*job);
}

}  // namespace blockmig::sim

// SPDX-License-Identifier: Apache-2.0
// The daemon's crash and restart in a world.
//
// A crash cuts every store and the journal off from the daemon at one instant: what was under way
// there is decided by lot, nothing that the old daemon does afterwards has any effect, and what its
// guests hear is not believed. So the old daemon may end by its ordinary ways of failure, and
// leaves nothing behind. Then a new one starts from the journal's records.
#include <utility>

#include "blockmig/migrate/checkpoint.h"
#include "world.h"

namespace blockmig::sim {

/// Falls somewhere in the next moments; between any two events, also those of one instant.
Task<void> World::crash_later() {
  const Duration wait = std::chrono::microseconds(random_.between(1, 300'000));
  co_await sleep_for(loop_, wait);
  for (std::uint64_t i = random_.below(4); i > 0; --i) {
    const Duration yield{};
    co_await sleep_for(loop_, yield);
  }
  if (!ended_ && !hydrates_ && !crashed_ && guest_ != nullptr) crash();
}

void World::crash() {
  power_lost_ = random_.chance(1, 2);
  note(power_lost_ ? "POWER LOSS" : "KILL");
  crashed_ = true;
  ++result_.crashes;
  journal_.alive = false;
  guest_->cut();
  if (instant_ != 0) history_.end_read(std::exchange(instant_, 0));
  for (const auto& store : stores_) {
    if (power_lost_) store->crash();
    store->abandon();
  }
}

Task<void> World::bury_daemon() {
  co_await workers_->join();
  co_await disturbances_.join();
  co_await board_->stop();
  const Status closed = co_await disk_->close();
  static_cast<void>(closed);
  if (!guest_->violation().empty()) complain(guest_->violation());
  result_.guest_requests += guest_->requests();
  result_.guest_errors += guest_->errors();
  guest_.reset();
  board_.reset();
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

Task<void> World::restart() {
  co_await bury_daemon();
  heal();
  for (const auto& store : stores_) store->reopen();
  journal_.alive = true;
  journal_.save_error_ppm = 0;
  crashed_ = false;
  const auto record = co_await journal_.load_disk("disk");
  std::uint64_t epoch = 1;
  std::string uri = stores_.front()->info().name;
  if (record.ok() && record->has_value()) {
    epoch = (*record)->epoch;
    uri = (*record)->store_uri.substr(4);
  }
  owner_ = find_store(uri);
  note("restart on " + uri);
  if (power_lost_) settle_survivors();
  open_daemon(epoch);
  const Status loaded = co_await board_->load();
  if (!loaded.ok()) complain("the journal cannot be read: " + loaded.error().message());
  const auto jobs = co_await journal_.load_jobs();
  RecoveredTracking recovered;
  std::optional<JobRecord> unfinished;
  for (const JobRecord& job : *jobs) {
    if (job.state != "running" && job.state != "paused") continue;
    if (job.target_uri == "sim:" + uri) {
      complain("a job whose target owns the disk is not recorded as done (I7)");
    }
    unfinished = job;
  }
  if (unfinished && planned_[unfinished->id].options.on_restart != OnRestart::kAbort) {
    const std::string id = unfinished->id;
    auto found = co_await recover(journal_, *disk_, id, loop_);
    if (!found.ok()) complain("recovering: " + found.error().message());
    if (found.ok()) recovered = std::move(*found);
    if (!recovered.empty()) ++result_.recovered;
  }
  start_guest();
  if (!unfinished) co_return;
  const Duration wait = std::chrono::microseconds(random_.between(0, 20000));
  co_await sleep_for(loop_, wait);  // the disk is served before its job is resumed
  co_await resume_job(*unfinished, std::move(recovered));
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
  plan_faults(*target_);
  auto opener = make_opener(target_);
  const auto job =
      board_->resume_recorded(*disk_, std::move(opener), planned.options, record, recovered);
  if (!job.ok()) {
    complain("a job did not resume: " + job.error().message());
    co_return;
  }
  note("resumed " + *job);
  ++result_.resumed;
  co_await see_job_through(*job);
}

}  // namespace blockmig::sim

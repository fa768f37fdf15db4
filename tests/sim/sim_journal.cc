// SPDX-License-Identifier: Apache-2.0
#include "sim_journal.h"

namespace blockmig::sim {

Task<void> SimJournal::take_time() {
  const Duration wait = std::chrono::microseconds(random_.between(10, 5000));
  co_await sleep_for(loop_, wait);
}

Task<Result<std::optional<DiskRecord>>> SimJournal::load_disk(const std::string& disk) {
  co_await take_time();
  const auto place = disks_.find(disk);
  if (place == disks_.end()) co_return std::optional<DiskRecord>();
  co_return std::optional<DiskRecord>(place->second);
}

Task<Result<std::vector<DiskRecord>>> SimJournal::load_disks() {
  co_await take_time();
  std::vector<DiskRecord> all;
  for (const auto& entry : disks_) all.push_back(entry.second);
  co_return all;
}

Task<Status> SimJournal::save_disk(const DiskRecord& record) {
  // The error is drawn apart from the effect: a failed save may have happened all the same.
  const bool fails = random_.below(1'000'000) < save_error_ppm;
  const bool happens = !fails || random_.chance(1, 2);
  if (happens && on_decision) on_decision(record);
  co_await take_time();
  if (happens) disks_[record.disk] = record;
  if (fails) co_return Error(ErrorCode::kIo, "the journal's device failed");
  co_return Status();
}

Task<Status> SimJournal::remove_disk(const std::string& disk) {
  co_await take_time();
  disks_.erase(disk);
  co_return Status();
}

Task<Result<std::vector<JobRecord>>> SimJournal::load_jobs() {
  co_await take_time();
  std::vector<JobRecord> all;
  for (const auto& entry : jobs_) all.push_back(entry.second);
  co_return all;
}

Task<Status> SimJournal::save_job(const JobRecord& record) {
  co_await take_time();
  jobs_[record.id] = record;
  co_return Status();
}

Task<Status> SimJournal::change_regions(const RegionChange& change) {
  const bool fails = random_.below(1'000'000) < save_error_ppm;
  const bool happens = !fails || random_.chance(1, 2);
  co_await take_time();
  if (happens) {
    auto& set = regions_[{change.disk, change.name}];
    for (const RegionContainer& container : change.put) set[container.index] = container;
    for (const std::uint32_t index : change.erase) set.erase(index);
  }
  if (fails) co_return Error(ErrorCode::kIo, "the journal's device failed");
  co_return Status();
}

Task<Result<std::vector<RegionContainer>>> SimJournal::load_regions(const std::string& disk,
                                                                    const std::string& name) {
  co_await take_time();
  std::vector<RegionContainer> all;
  for (const auto& entry : regions_[{disk, name}]) all.push_back(entry.second);
  co_return all;
}

Task<Status> SimJournal::remove_regions(const std::string& disk, const std::string& name) {
  co_await take_time();
  regions_.erase({disk, name});
  co_return Status();
}

Task<Result<std::optional<HydrationRecord>>> SimJournal::load_hydration(const std::string& disk) {
  co_await take_time();
  const auto place = hydrations_.find(disk);
  if (place == hydrations_.end()) co_return std::optional<HydrationRecord>();
  co_return std::optional<HydrationRecord>(place->second);
}

Task<Status> SimJournal::save_hydration(const HydrationRecord& record) {
  const bool fails = random_.below(1'000'000) < save_error_ppm;
  const bool happens = !fails || random_.chance(1, 2);
  co_await take_time();
  if (happens) hydrations_[record.disk] = record;
  if (fails) co_return Error(ErrorCode::kIo, "the journal's device failed");
  co_return Status();
}

Task<Status> SimJournal::remove_hydration(const std::string& disk) {
  co_await take_time();
  hydrations_.erase(disk);
  co_return Status();
}

}  // namespace blockmig::sim

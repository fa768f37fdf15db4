// SPDX-License-Identifier: Apache-2.0
#include "blockmig/journal/journal.h"

#include <utility>

namespace blockmig {

Task<Status> Journal::save_disk(const DiskRecord& record) {
  JournalBatch batch;
  batch.disks.push_back(record);
  const Status saved = co_await commit(batch);
  co_return saved;
}

Task<Status> Journal::remove_disk(const std::string& disk) {
  JournalBatch batch;
  batch.removed_disks.push_back(disk);
  const Status removed = co_await commit(batch);
  co_return removed;
}

Task<Status> Journal::save_job(const JobRecord& record) {
  JournalBatch batch;
  batch.jobs.push_back(record);
  const Status saved = co_await commit(batch);
  co_return saved;
}

Task<Status> Journal::change_regions(RegionChange change) {
  JournalBatch batch;
  batch.regions.push_back(std::move(change));
  const Status saved = co_await commit(batch);
  co_return saved;
}

Task<Status> Journal::remove_regions(const std::string& disk, const std::string& name) {
  JournalBatch batch;
  batch.removed_sets.push_back({disk, name});
  const Status removed = co_await commit(batch);
  co_return removed;
}

Task<Status> Journal::save_hydration(const HydrationRecord& record) {
  JournalBatch batch;
  batch.hydrations.push_back(record);
  const Status saved = co_await commit(batch);
  co_return saved;
}

Task<Status> Journal::remove_hydration(const std::string& disk) {
  JournalBatch batch;
  batch.removed_hydrations.push_back(disk);
  const Status removed = co_await commit(batch);
  co_return removed;
}

}  // namespace blockmig

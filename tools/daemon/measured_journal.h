// SPDX-License-Identifier: Apache-2.0
// MeasuredJournal: a journal that takes the time of its saves: each is a wait for stable storage,
// and the last step of a switchover. Thread rule: as the journal's.
#pragma once

#include <memory>
#include <utility>

#include "blockmig/base/latency_histogram.h"
#include "blockmig/journal/forwarding_journal.h"

namespace blockmig {

class MeasuredJournal final : public ForwardingJournal {
 public:
  MeasuredJournal(EventLoop& loop, std::unique_ptr<Journal> journal)
      : ForwardingJournal(std::move(journal)), loop_(loop) {}

  Task<Status> save_disk(const DiskRecord& record) override {
    return measured(inner().save_disk(record));
  }
  Task<Status> remove_disk(const std::string& disk) override {
    return measured(inner().remove_disk(disk));
  }
  Task<Status> save_job(const JobRecord& record) override {
    return measured(inner().save_job(record));
  }
  Task<Status> change_regions(const RegionChange& change) override {
    return measured(inner().change_regions(change));
  }
  Task<Status> remove_regions(const std::string& disk, const std::string& name) override {
    return measured(inner().remove_regions(disk, name));
  }
  Task<Status> save_hydration(const HydrationRecord& record) override {
    return measured(inner().save_hydration(record));
  }
  Task<Status> remove_hydration(const std::string& disk) override {
    return measured(inner().remove_hydration(disk));
  }

  Task<Status> commit(const JournalBatch& batch) override {
    return measured(inner().commit(batch));
  }

  /// How long saves took, failed ones included.
  const LatencyHistogram& saves() const { return saves_; }

 private:
  Task<Status> measured(Task<Status> save) {
    const TimePoint begun = loop_.now();
    const Status status = co_await std::move(save);
    saves_.record(static_cast<std::uint64_t>((loop_.now() - begun).count()));
    co_return status;
  }

  EventLoop& loop_;
  LatencyHistogram saves_;
};

}  // namespace blockmig

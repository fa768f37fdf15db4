// SPDX-License-Identifier: Apache-2.0
// MeasuredJournal: a journal that takes the time of its saves: each is a wait for stable storage,
// and the last step of a switchover. Thread rule: as the journal's.
#pragma once

#include <memory>
#include <utility>

#include "blockmig/base/latency_histogram.h"
#include "blockmig/journal/journal.h"

namespace blockmig {

class MeasuredJournal final : public Journal {
 public:
  MeasuredJournal(EventLoop& loop, std::unique_ptr<Journal> journal)
      : loop_(loop), journal_(std::move(journal)) {}

  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override {
    return journal_->load_disk(disk);
  }
  Task<Result<std::vector<DiskRecord>>> load_disks() override { return journal_->load_disks(); }
  Task<Status> save_disk(const DiskRecord& record) override {
    return measured(journal_->save_disk(record));
  }
  Task<Status> remove_disk(const std::string& disk) override {
    return measured(journal_->remove_disk(disk));
  }
  Task<Result<std::vector<JobRecord>>> load_jobs() override { return journal_->load_jobs(); }
  Task<Status> save_job(const JobRecord& record) override {
    return measured(journal_->save_job(record));
  }
  Task<Status> change_regions(const RegionChange& change) override {
    return measured(journal_->change_regions(change));
  }
  Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                          const std::string& name) override {
    return journal_->load_regions(disk, name);
  }
  Task<Status> remove_regions(const std::string& disk, const std::string& name) override {
    return measured(journal_->remove_regions(disk, name));
  }
  Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) override {
    return journal_->load_hydration(disk);
  }
  Task<Status> save_hydration(const HydrationRecord& record) override {
    return measured(journal_->save_hydration(record));
  }
  Task<Status> remove_hydration(const std::string& disk) override {
    return measured(journal_->remove_hydration(disk));
  }

  Task<Status> commit(const JournalBatch& batch) override {
    return measured(journal_->commit(batch));
  }
  Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) override {
    return journal_->load_sets(disk);
  }
  Task<Status> distrust_sets() override { return journal_->distrust_sets(); }
  Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) override {
    return journal_->load_notes(topic);
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
  std::unique_ptr<Journal> journal_;
  LatencyHistogram saves_;
};

}  // namespace blockmig

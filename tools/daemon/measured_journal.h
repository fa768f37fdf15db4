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

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

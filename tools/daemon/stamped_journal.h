// SPDX-License-Identifier: Apache-2.0
// StampedJournal: a journal that makes its region sets void also where nothing in its folder can be
// changed any more (a filesystem that has gone read-only): by the stamps beside the images (I5).
// Thread rule: as the journal's.
#pragma once

#include <functional>
#include <memory>
#include <utility>

#include "blockmig/journal/forwarding_journal.h"

namespace blockmig {

class StampedJournal final : public ForwardingJournal {
 public:
  /// Every image that is served says that nothing recorded of it is to be believed. An error: one
  /// of them does not.
  using Stamp = std::function<Task<Status>()>;
  StampedJournal(std::unique_ptr<Journal> journal, Stamp stamp)
      : ForwardingJournal(std::move(journal)), stamp_(std::move(stamp)) {}

  Task<Status> distrust_sets() override {
    const Status distrusted = co_await inner().distrust_sets();
    if (distrusted.ok()) co_return distrusted;
    const Status stamped = co_await stamp_();
    co_return stamped.ok() ? stamped : distrusted;
  }

 private:
  Stamp stamp_;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// SlowJournal: a journal in memory that can be held, and made to fail.
#pragma once

#include <functional>
#include <utility>
#include <vector>

#include "blockmig/io/event.h"
#include "blockmig/journal/forwarding_journal.h"

namespace blockmig {

/// Who asks next, once `hold_next` is set, learns which disks there are when `free` is; what
/// `holds` picks is not saved before that either, nor the first note after `hold_first_note`. What
/// `fails` picks is not saved at all.
class SlowJournal final : public ForwardingJournal {
 public:
  explicit SlowJournal(EventLoop& loop)
      : ForwardingJournal(make_memory_journal(loop)), held(loop), free(loop) {}
  Task<Result<std::vector<DiskRecord>>> load_disks() override {
    if (std::exchange(hold_next, false)) {
      held.set();
      co_await free.wait();
    }
    auto disks = co_await inner().load_disks();
    co_return disks;
  }

  Task<Status> commit(const JournalBatch& batch) override {
    if (fails && fails(batch)) co_return Error(ErrorCode::kNoSpace, "no room");
    const bool first_note = hold_first_note && !batch.notes.empty();
    if (first_note) hold_first_note = false;
    if (first_note || (holds && holds(batch))) {
      held.set();
      co_await free.wait();
    }
    const Status saved = co_await inner().commit(batch);
    co_return saved;
  }

  bool hold_next = false;
  bool hold_first_note = false;
  std::function<bool(const JournalBatch&)> holds;
  std::function<bool(const JournalBatch&)> fails;
  Event held;  ///< somebody is
  Event free;
};

}  // namespace blockmig

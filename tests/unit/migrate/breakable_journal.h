// SPDX-License-Identifier: Apache-2.0
// BreakableJournal: a journal in memory that fails for good when told to, as one whose filesystem
// is full.
#pragma once

#include <functional>

#include "blockmig/io/offload.h"
#include "blockmig/journal/forwarding_journal.h"

namespace blockmig {

class BreakableJournal final : public ForwardingJournal {
 public:
  explicit BreakableJournal(EventLoop& loop)
      : ForwardingJournal(make_memory_journal(loop)), loop_(loop) {}

  /// What becomes of a batch: the journal fails with it, before it, or not at all.
  enum class Fate : unsigned char { kSaved, kAttempted, kRefused };
  std::function<Fate(const JournalBatch&)> fate = [](const JournalBatch&) { return Fate::kSaved; };
  /// Whether there is room for a batch that is about to follow.
  std::function<Status(const JournalBatch&)> room = [](const JournalBatch&) { return Status(); };
  int distrusted = 0;
  bool distrust_fails = false;  ///< as where nothing can be removed any more either

  /// The next save is attempted and fails; everything after it is refused.
  void break_down() {
    fate = [](const JournalBatch&) { return Fate::kAttempted; };
  }

  Status health() const override {
    return broken_ ? Status(Error(ErrorCode::kNoSpace, "planned")) : Status();
  }
  Task<Status> commit(const JournalBatch& batch) override {
    offload pause(loop_, [] {});
    co_await pause;
    if (broken_) co_return refusal();
    const Fate now = fate(batch);
    broken_ = now != Fate::kSaved;
    if (now == Fate::kAttempted) co_return Error(ErrorCode::kNoSpace, "planned");
    if (now == Fate::kRefused) co_return refusal();
    const Status saved = co_await inner().commit(batch);
    co_return saved;
  }
  Task<Status> reserve(const JournalBatch& batch) override {
    offload pause(loop_, [] {});
    co_await pause;
    if (broken_) co_return refusal();
    co_return room(batch);
  }
  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override {
    if (broken_) co_return refusal();
    auto loaded = co_await inner().load_disk(disk);
    co_return loaded;
  }
  /// It needs nothing that a full filesystem lacks.
  Task<Status> distrust_sets() override {
    ++distrusted;
    if (distrust_fails) co_return Error(ErrorCode::kReadOnly, "planned");
    const Status done = co_await inner().distrust_sets();
    co_return done;
  }

 private:
  static Error refusal() {
    return Error(ErrorCode::kPrecondition, "a save failed before: planned");
  }

  EventLoop& loop_;
  bool broken_ = false;
};

}  // namespace blockmig

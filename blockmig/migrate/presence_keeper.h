// SPDX-License-Identifier: Apache-2.0
// PresenceKeeper: makes a hydrating disk's presence durable, always after its data (I12).
//
// save() is one flush of the new store and, where chunks became present, one change of the
// journal; saves that are asked for while one runs share the next. Thread rule: the disk's loop.
// join() before destruction.
#pragma once

#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/disk/presence_map.h"
#include "blockmig/io/event.h"
#include "blockmig/io/semaphore.h"
#include "blockmig/io/task_scope.h"
#include "blockmig/journal/journal.h"
#include "blockmig/migrate/hydration_core.h"

namespace blockmig {

class PresenceKeeper final {
 public:
  /// `record` as the journal has it.
  PresenceKeeper(HydrationCore& core, Journal& journal, HydrationRecord record)
      : core_(core), journal_(journal), record_(std::move(record)) {}

  const HydrationRecord& record() const { return record_; }
  Journal& journal() { return journal_; }

  /// On success everything that was written to the new store before the call is durable, and all
  /// that was present then is durably present.
  Task<Status> save();
  /// The base is not written to any more: from the next save on the journal says so.
  void mirror_given_up();
  /// Nobody may rely on the base for what is acknowledged once this has succeeded: a restart knows
  /// that the mirror has ended. At once where that is recorded, or there was none.
  Task<Status> record_mirror_end();
  bool mirror_end_recorded() const { return !end_unrecorded_; }
  /// A FUA write to `range` needs a save to be durable.
  bool needs_save(ByteRange range) const { return running_ || core_.map->has_fresh(range); }

  Task<void> join() { co_await scope_.join(); }

 private:
  struct Round {
    explicit Round(EventLoop& loop) : done(loop) {}
    Event done;
    Status status;
  };
  Task<void> run_rounds();
  Task<Status> save_once();
  Task<Status> save_chunks(const std::vector<std::uint32_t>& chunks);

  HydrationCore& core_;
  Journal& journal_;
  HydrationRecord record_;
  bool record_changed_ = false;
  bool end_unrecorded_ = false;
  Semaphore recording_end_{core_.loop, 1};
  bool running_ = false;
  std::shared_ptr<Round> next_;
  TaskScope scope_;
};

}  // namespace blockmig

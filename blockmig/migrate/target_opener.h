// SPDX-License-Identifier: Apache-2.0
// TargetOpener: how a job reaches its target. Implemented by whoever knows URIs (tools/) or
// simulations (tests/sim). Thread rule: the disk's loop.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "blockmig/base/error.h"
#include "blockmig/block/block_device.h"
#include "blockmig/io/task.h"
#include "blockmig/migrate/data_at_rest.h"
#include "blockmig/migrate/rest_merge.h"

namespace blockmig {

class BitmapKeeper;

class TargetOpener {
 public:
  virtual ~TargetOpener() = default;
  /// The canonical URI, as it will be journalled.
  virtual const std::string& uri() const = 0;
  /// Opens the target for writing, creating it if it can be created, with at least `size_bytes`.
  /// Checks what can be checked before anything changes: space, size, use by others.
  virtual Task<Result<std::unique_ptr<BlockDevice>>> open(std::uint64_t size_bytes) = 0;
  /// The job has ended while open() is under way, which may hang: from now on it takes nothing that
  /// is there, and what it has made goes by discard(). Acts at once.
  virtual void give_up() {}
  /// After open(): what tells this target from another under the same URI; empty where the URI is
  /// all that is known. What was recorded about another target is not believed.
  virtual std::string identity() const { return {}; }
  /// Likewise. False: somebody may have changed it since an earlier daemon had it.
  virtual bool as_left() const { return true; }
  /// Likewise. False: nothing there would say that somebody else has used it since a crash.
  virtual bool guarded() const { return true; }
  /// What was recorded about another target is void now, and this one is about to be written to. An
  /// error: it must not be.
  virtual Task<Status> compared() { co_return Status(); }
  /// Mode `snapshot`: from now on the target is a mixture, until generation_complete(). Called at
  /// the instant which that generation will be, with the disk's gate closed: quick.
  virtual void generation_begins(std::uint64_t number) { static_cast<void>(number); }
  /// The target, flushed, is the disk of the instant of generation_begins(number).
  virtual Task<Status> generation_complete(std::uint64_t number) {
    static_cast<void>(number);
    co_return Status();
  }
  /// The device is where the URI leads to: who opens that after the decision finds the disk (I1).
  /// kPrecondition: it has been removed or replaced.
  virtual Task<Status> check_place() { co_return Status(); }
  /// Who looks at a store without this journal learns from the next three which one the disk lives
  /// on (blockmig/journal/owner_stamp.h). Trouble with the others is theirs to tell.
  /// Before the fence: until one of the others is called, only the journal says which (I3). An
  /// error: the target says that it is no disk, and cannot be changed, so nothing is decided.
  virtual Task<Status> announce_switch() { co_return Status(); }
  /// After the decision. `source_needed`: the disk still fetches from its old store.
  virtual Task<void> confirm_switch(bool source_needed) {
    static_cast<void>(source_needed);
    co_return;
  }
  /// There is no decision, and will be none.
  virtual Task<void> withdraw_switch() { co_return; }
  /// The target is a finished copy that belongs to nobody.
  virtual Task<void> keep() { co_return; }
  /// The disk's bitmaps, which keep the record for mode `return`; null: nothing is recorded.
  virtual BitmapKeeper* bitmaps() { return nullptr; }
  /// What such a record is to have as its id; confirm_switch() says the same of the old store.
  virtual std::string new_record_id() { return {}; }
  /// For mode `shared`: the folder that the disk's image lies in; null where there is none. The
  /// opener's.
  virtual DataAtRest* data_at_rest() { return nullptr; }
  /// For mode `settle`: what is known of the target as an image at rest; null where there is none.
  /// The opener's.
  virtual RestMerge* rest_merge() { return nullptr; }
  /// Removes what open() created; called when the job did not reach its decision, once nothing is
  /// under way at the device, and before it is closed: from then on the target may be somebody
  /// else's. Never an existing file: one that a disk was to return to is `left` again.
  virtual Task<void> discard() = 0;
};

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/sync_group.h"

#include <utility>

namespace blockmig {

SyncGroup::SyncGroup(EventLoop& loop, StickyError& error, Sync sync)
    : error_(error), sync_(std::move(sync)), changed_(loop) {}

/// The sync that covers this flush is the first that begins from now on. Whoever of those that wait
/// for it comes first runs it.
Task<Status> SyncGroup::flush() {
  const std::uint64_t age = error_.age();
  const std::uint64_t mine = begun_ + 1;
  Status verdict = error_.verdict(age);
  while (verdict.ok() && ended_ < mine) {
    if (begun_ == ended_) {
      co_await run_next();
    } else {
      co_await changed_.wait();
    }
    verdict = error_.verdict(age);
  }
  co_return verdict;
}

Task<void> SyncGroup::run_next() {
  ++begun_;
  const Status done = co_await sync_();
  if (!done) error_.note(done.error());
  ended_ = begun_;
  changed_.pulse();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/leftovers.h"

#include "blockmig/base/planted.h"

namespace blockmig {

Task<void> let_go(std::unique_ptr<Replica> replica, std::shared_ptr<TargetOpener> opener,
                  std::unique_ptr<Unanswered::Entry> entry) {
  co_await replica->drain();
  if (!planted(PlantedBug::kDiscardAfterClose)) co_await opener->discard();
  const Status closed = co_await replica->close();
  static_cast<void>(closed);  // its content is worthless already
  if (planted(PlantedBug::kDiscardAfterClose)) co_await opener->discard();
  entry.reset();  // before what it refers to
}

Task<void> close_copy(std::unique_ptr<Replica> replica, std::unique_ptr<Unanswered::Entry> entry) {
  co_await replica->drain();
  const Status closed = co_await replica->close();
  static_cast<void>(closed);  // what counts was flushed, also for the record
  entry.reset();
}

Task<void> close_old_store(std::unique_ptr<BlockDevice> store,
                           std::unique_ptr<Unanswered::Entry> entry) {
  const Status closed = co_await store->close();
  static_cast<void>(closed);  // nobody's data lives there any more
  entry.reset();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
#include "blockmig/migrate/presence_keeper.h"

#include <utility>
#include <vector>

#include "blockmig/base/planted.h"

namespace blockmig {

void PresenceKeeper::mirror_given_up() {
  record_.reverse_mirror = false;
  record_changed_ = true;
  end_unrecorded_ = true;
}

Task<Status> PresenceKeeper::record_mirror_end() {
  Status recorded;
  if (planted(PlantedBug::kMirrorEndForgotten)) co_return recorded;
  co_await recording_end_.acquire(1);
  if (end_unrecorded_) {
    recorded = co_await journal_.save_hydration(record_);
    if (recorded.ok()) end_unrecorded_ = false;
  }
  recording_end_.release(1);
  if (recorded.ok()) co_return recorded;
  co_return recorded.error().with_context("recording that the old store is not written any more");
}

Task<Status> PresenceKeeper::save() {
  if (!next_) next_ = std::make_shared<Round>(core_.loop);
  const std::shared_ptr<Round> mine = next_;
  if (!running_) {
    running_ = true;
    auto task = run_rounds();
    scope_.spawn(std::move(task));
  }
  co_await mine->done.wait();
  co_return mine->status;
}

Task<void> PresenceKeeper::run_rounds() {
  while (next_) {
    const std::shared_ptr<Round> round = std::exchange(next_, nullptr);
    const Status status = co_await save_once();
    round->status = status;
    round->done.set();
  }
  running_ = false;
}

Task<Status> PresenceKeeper::save_once() {
  // Taken before the flush: what becomes present later may not be covered by it.
  DirtyLease fresh = core_.map->take_fresh();
  const bool record_changed = std::exchange(record_changed_, false);
  Status status;
  if (!planted(PlantedBug::kPresenceBeforeData)) status = co_await core_.local->flush();
  if (status.ok() && !fresh.empty()) status = co_await save_chunks(fresh.chunks());
  if (status.ok() && record_changed) status = co_await journal_.save_hydration(record_);
  if (status.ok()) {
    if (record_changed) end_unrecorded_ = false;
    fresh.acknowledge_all();
  } else if (record_changed) {
    record_changed_ = true;
  }
  if (planted(PlantedBug::kPresenceBeforeData)) {
    const Status late = co_await core_.local->flush();
    static_cast<void>(late);
  }
  co_return status;
}

Task<Status> PresenceKeeper::save_chunks(const std::vector<std::uint32_t>& chunks) {
  RegionChange change;
  change.disk = record_.disk;
  change.name = record_.regions;
  const std::vector<std::uint32_t> containers = PresenceMap::containers_of(chunks);
  for (std::size_t i = 0; i < containers.size(); ++i) {
    RegionContainer container = core_.map->durable_form(containers[i]);
    if (container.bits.empty()) {
      change.erase.push_back(container.index);
    } else {
      change.put.push_back(std::move(container));
    }
    const bool full = change.put.size() + change.erase.size() == kMaxContainersPerChange;
    if (!full && i + 1 < containers.size()) continue;
    RegionChange next = std::exchange(change, {record_.disk, record_.regions, {}, {}});
    const Status saved = co_await journal_.change_regions(std::move(next));
    if (!saved.ok()) co_return saved.error().with_context("saving which chunks are present");
  }
  co_return Status();
}

}  // namespace blockmig

// SPDX-License-Identifier: Apache-2.0
// What one life of a simulated daemon sees of its stores and its journal. When it is killed, its
// tasks still run to their ends, but nothing that they ask for happens any more.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/block/fault_device.h"
#include "blockmig/journal/forwarding_journal.h"

namespace blockmig::sim {

/// Shared by everything of one life.
struct Life {
  bool over = false;
};

class MortalDevice final : public BlockDevice, public StoreHealth {
 public:
  MortalDevice(std::shared_ptr<FaultDevice> device, std::shared_ptr<Life> life)
      : device_(std::move(device)), life_(std::move(life)) {}

  const DeviceInfo& info() const override { return device_->info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->read(offset, into);
    co_return status;
  }
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->read_medium(offset, into);
    co_return status;
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->write(offset, from, flags);
    co_return status;
  }
  Task<Status> flush() override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->flush();
    co_return status;
  }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->trim(offset, length, flags);
    co_return status;
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->write_zeroes(offset, length, flags);
    co_return status;
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    if (life_->over) co_return dead();
    auto extents = co_await device_->extents(offset, length);
    co_return extents;
  }
  std::optional<Error> lost() const override { return device_->lost(); }
  Task<Status> revive() override {
    if (life_->over) co_return dead();
    const Status status = co_await device_->revive();
    co_return status;
  }
  /// The store itself outlives the process that gave up on it.
  Task<Status> close() override { co_return Status(); }

 private:
  static Error dead() { return Error(ErrorCode::kDisconnected, "the daemon is dead"); }

  std::shared_ptr<FaultDevice> device_;
  std::shared_ptr<Life> life_;
};

/// Saves of a dead daemon do not happen; those under way may have.
class MortalJournal final : public ForwardingJournal {
 public:
  MortalJournal(Journal& journal, std::shared_ptr<Life> life)
      : ForwardingJournal(journal), life_(std::move(life)) {}

  Task<Status> commit(const JournalBatch& batch) override {
    return life_->over ? refuse() : inner().commit(batch);
  }
  Task<Status> distrust_sets() override { return life_->over ? refuse() : inner().distrust_sets(); }

 private:
  static Task<Status> refuse() { co_return Error(ErrorCode::kDisconnected, "the daemon is dead"); }

  std::shared_ptr<Life> life_;
};

}  // namespace blockmig::sim

// SPDX-License-Identifier: Apache-2.0
// What one life of a simulated daemon sees of its stores and its journal. When it is killed, its
// tasks still run to their ends, but nothing that they ask for happens any more.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "blockmig/block/fault_device.h"
#include "sim_journal.h"

namespace blockmig::sim {

/// Shared by everything of one life.
struct Life {
  bool over = false;
};

class MortalDevice final : public BlockDevice {
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
  /// The store itself outlives the process that gave up on it.
  Task<Status> close() override { co_return Status(); }

 private:
  static Error dead() { return Error(ErrorCode::kDisconnected, "the daemon is dead"); }

  std::shared_ptr<FaultDevice> device_;
  std::shared_ptr<Life> life_;
};

/// Saves of a dead daemon do not happen; those under way may have.
class MortalJournal final : public Journal {
 public:
  MortalJournal(SimJournal& journal, std::shared_ptr<Life> life)
      : journal_(journal), life_(std::move(life)) {}

  Task<Result<std::optional<DiskRecord>>> load_disk(const std::string& disk) override {
    return journal_.load_disk(disk);
  }
  Task<Result<std::vector<DiskRecord>>> load_disks() override { return journal_.load_disks(); }
  Task<Status> save_disk(const DiskRecord& record) override {
    return life_->over ? refuse() : journal_.save_disk(record);
  }
  Task<Status> remove_disk(const std::string& disk) override {
    return life_->over ? refuse() : journal_.remove_disk(disk);
  }
  Task<Result<std::vector<JobRecord>>> load_jobs() override { return journal_.load_jobs(); }
  Task<Status> save_job(const JobRecord& record) override {
    return life_->over ? refuse() : journal_.save_job(record);
  }
  Task<Status> change_regions(const RegionChange& change) override {
    return life_->over ? refuse() : journal_.change_regions(change);
  }
  Task<Result<std::vector<RegionContainer>>> load_regions(const std::string& disk,
                                                          const std::string& name) override {
    return journal_.load_regions(disk, name);
  }
  Task<Status> remove_regions(const std::string& disk, const std::string& name) override {
    return life_->over ? refuse() : journal_.remove_regions(disk, name);
  }
  Task<Result<std::optional<HydrationRecord>>> load_hydration(const std::string& disk) override {
    return journal_.load_hydration(disk);
  }
  Task<Status> save_hydration(const HydrationRecord& record) override {
    return life_->over ? refuse() : journal_.save_hydration(record);
  }
  Task<Status> remove_hydration(const std::string& disk) override {
    return life_->over ? refuse() : journal_.remove_hydration(disk);
  }
  Task<Status> commit(const JournalBatch& batch) override {
    return life_->over ? refuse() : journal_.commit(batch);
  }
  Task<Result<std::vector<RegionSetRecord>>> load_sets(const std::string& disk) override {
    return journal_.load_sets(disk);
  }
  Task<Status> distrust_sets() override {
    return life_->over ? refuse() : journal_.distrust_sets();
  }
  Task<Result<std::vector<NoteRecord>>> load_notes(const std::string& topic) override {
    return journal_.load_notes(topic);
  }

 private:
  static Task<Status> refuse() { co_return Error(ErrorCode::kDisconnected, "the daemon is dead"); }

  SimJournal& journal_;
  std::shared_ptr<Life> life_;
};

}  // namespace blockmig::sim

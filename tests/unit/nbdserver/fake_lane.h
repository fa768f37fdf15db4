// SPDX-License-Identifier: Apache-2.0
// FakeLane: reaches a device of one loop from another.
#pragma once

#include <set>
#include <thread>
#include <vector>

#include "blockmig/block/block_device.h"
#include "blockmig/io/call_on.h"
#include "blockmig/io/task_scope.h"

namespace blockmig::nbd {

/// Takes every request to the device's own loop, and notes from which threads they came.
class FakeLane final : public BlockDevice {
 public:
  FakeLane(BlockDevice& device, EventLoop& home, EventLoop& own, std::set<std::thread::id>& threads)
      : device_(device), home_(home), own_(own), threads_(threads) {}

  const DeviceInfo& info() const override { return device_.info(); }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    const std::thread::id id = std::this_thread::get_id();
    const Status status = co_await call_on(own_, home_, calls_, [this, id, offset, into] {
      threads_.insert(id);
      return device_.read(offset, into);
    });
    co_return status;
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    const Status status = co_await call_on(own_, home_, calls_, [this, offset, from, flags] {
      return device_.write(offset, from, flags);
    });
    co_return status;
  }
  Task<Status> flush() override {
    const Status status = co_await call_on(own_, home_, calls_, [this] { return device_.flush(); });
    co_return status;
  }
  Task<Status> trim(std::uint64_t, std::uint64_t, WriteFlags) override { co_return Status(); }
  Task<Status> write_zeroes(std::uint64_t, std::uint64_t, ZeroFlags) override {
    co_return Status();
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    co_return std::vector<Extent>{{offset, length, false, false}};
  }
  Task<Status> close() override { co_return Status(); }

 private:
  BlockDevice& device_;
  EventLoop& home_;
  EventLoop& own_;
  std::set<std::thread::id>& threads_;  ///< home's
  TaskScope calls_;
};

}  // namespace blockmig::nbd

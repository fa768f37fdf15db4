// SPDX-License-Identifier: Apache-2.0
// SharedDevice: lets a disk or a job own a simulated device that the test keeps, to look into it
// afterwards. Thread rule: the device's.
#pragma once

#include <memory>
#include <utility>

#include "blockmig/block/fault_device.h"
#include "blockmig/block/forwarding_device.h"

namespace blockmig {

class SharedDevice final : public ForwardingDevice {
 public:
  /// `mute`: it cannot say what it has allocated, as some NBD servers cannot. `closed` is set by
  /// close().
  explicit SharedDevice(std::shared_ptr<FaultDevice> device, bool mute = false,
                        std::shared_ptr<bool> closed = nullptr)
      : ForwardingDevice(*device),
        device_(std::move(device)),
        closed_(std::move(closed)),
        mute_(mute) {}

  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    if (mute_) return say_nothing(offset, length);
    return device_->extents(offset, length);
  }
  Task<Status> close() override {
    if (closed_) *closed_ = true;
    return device_->close();
  }

 private:
  static Task<Result<std::vector<Extent>>> say_nothing(std::uint64_t offset, std::uint64_t length) {
    co_return std::vector<Extent>(1, Extent{offset, length, false, false});
  }

  std::shared_ptr<FaultDevice> device_;
  std::shared_ptr<bool> closed_;
  bool mute_;
};

}  // namespace blockmig

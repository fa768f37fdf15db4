// SPDX-License-Identifier: Apache-2.0
// ClippedDevice: the first `size_bytes` of a larger device. Logical volumes and remote exports come
// in round sizes; the disk keeps its own through every move and every restart. Lifecycle and thread
// rule: those of the device below.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "blockmig/base/bytes.h"
#include "blockmig/base/check.h"
#include "blockmig/block/forwarding_device.h"

namespace blockmig {

class ClippedDevice final : public ForwardingDevice {
 public:
  /// `size_bytes` at most the device's size, and a multiple of its min_io_bytes.
  ClippedDevice(std::unique_ptr<BlockDevice> below, std::uint64_t size_bytes);

  const DeviceInfo& info() const override { return info_; }
  Task<Status> read(std::uint64_t offset, MutableBytes into) override {
    assert_inside(offset, into.size());
    return ForwardingDevice::read(offset, into);
  }
  Task<Status> read_medium(std::uint64_t offset, MutableBytes into) override {
    assert_inside(offset, into.size());
    return ForwardingDevice::read_medium(offset, into);
  }
  Task<Status> write(std::uint64_t offset, ConstBytes from, WriteFlags flags) override {
    assert_inside(offset, from.size());
    return ForwardingDevice::write(offset, from, flags);
  }
  Task<Status> trim(std::uint64_t offset, std::uint64_t length, WriteFlags flags) override {
    assert_inside(offset, length);
    return ForwardingDevice::trim(offset, length, flags);
  }
  Task<Status> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags flags) override {
    assert_inside(offset, length);
    return ForwardingDevice::write_zeroes(offset, length, flags);
  }
  Task<Result<std::vector<Extent>>> extents(std::uint64_t offset, std::uint64_t length) override {
    assert_inside(offset, length);
    return ForwardingDevice::extents(offset, length);
  }

 private:
  /// Alignment is looked at below.
  void assert_inside(std::uint64_t offset, std::uint64_t length) const {
    BM_CHECK(fits(offset, length, info_.size_bytes));
  }

  const std::unique_ptr<BlockDevice> below_;
  DeviceInfo info_;
};

/// `device` as a disk of exactly `size_bytes` sees it: itself if it has that size, clipped if it is
/// larger. kPrecondition: too small, or its alignment does not fit the size; the device is given
/// back in `device` for closing.
Result<std::unique_ptr<BlockDevice>> fit_to_size(std::unique_ptr<BlockDevice>& device,
                                                 std::uint64_t size_bytes);

}  // namespace blockmig

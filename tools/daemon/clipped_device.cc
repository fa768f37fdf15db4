// SPDX-License-Identifier: Apache-2.0
#include "tools/daemon/clipped_device.h"

#include <string>

#include "blockmig/base/units.h"

namespace blockmig {

ClippedDevice::ClippedDevice(std::unique_ptr<BlockDevice> below, std::uint64_t size_bytes)
    : ForwardingDevice(*below), below_(std::move(below)), info_(below_->info()) {
  BM_CHECK(size_bytes <= info_.size_bytes && size_bytes % info_.min_io_bytes == 0);
  info_.size_bytes = size_bytes;
}

Result<std::unique_ptr<BlockDevice>> fit_to_size(std::unique_ptr<BlockDevice>& device,
                                                 std::uint64_t size_bytes) {
  const DeviceInfo& info = device->info();
  if (info.size_bytes == size_bytes) return std::move(device);
  if (info.size_bytes < size_bytes) {
    return Error(ErrorCode::kPrecondition,
                 info.name + " is too small: " + std::to_string(info.size_bytes) +
                     " bytes, the disk has " + std::to_string(size_bytes) + " (" +
                     format_bytes(size_bytes) + ")");
  }
  if (size_bytes % info.min_io_bytes != 0) {
    return Error(ErrorCode::kPrecondition,
                 info.name + " takes whole blocks of " + std::to_string(info.min_io_bytes) +
                     " bytes only, and the disk's size " + std::to_string(size_bytes) +
                     " is no multiple of that");
  }
  return std::unique_ptr<BlockDevice>(
      std::make_unique<ClippedDevice>(std::move(device), size_bytes));
}

}  // namespace blockmig

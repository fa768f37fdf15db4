// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/block_device.h"

#include "blockmig/base/check.h"

namespace blockmig {
namespace {

std::string describe(const DeviceInfo& info, std::uint64_t offset, std::uint64_t length) {
  return info.name + ": range of " + std::to_string(length) + " bytes at " + std::to_string(offset);
}

bool aligned(const DeviceInfo& info, std::uint64_t offset, std::uint64_t length) {
  return ((offset | length) & (info.min_io_bytes - 1)) == 0;
}

}  // namespace

Status check_range(const DeviceInfo& info, std::uint64_t offset, std::uint64_t length,
                   bool is_write) {
  if (!fits(offset, length, info.size_bytes)) {
    return Error(is_write ? ErrorCode::kNoSpace : ErrorCode::kInvalid,
                 describe(info, offset, length) + " is beyond the end at " +
                     std::to_string(info.size_bytes));
  }
  if (!aligned(info, offset, length)) {
    return Error(ErrorCode::kInvalid, describe(info, offset, length) + " is not aligned to " +
                                          std::to_string(info.min_io_bytes));
  }
  return {};
}

void assert_range(const DeviceInfo& info, std::uint64_t offset, std::uint64_t length) {
  BM_CHECK(fits(offset, length, info.size_bytes));
  BM_CHECK(aligned(info, offset, length));
}

void append_extent(std::vector<Extent>& extents, const Extent& next) {
  if (!extents.empty()) {
    Extent& last = extents.back();
    if (last.hole == next.hole && last.zero == next.zero &&
        last.offset + last.length == next.offset) {
      last.length += next.length;
      return;
    }
  }
  extents.push_back(next);
}

}  // namespace blockmig

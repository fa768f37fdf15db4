// SPDX-License-Identifier: Apache-2.0
#include "blockmig/block/null_device.h"

#include <algorithm>

namespace blockmig {

NullDevice::NullDevice(std::uint64_t size_bytes, bool read_only) {
  info_.name = "null:" + std::to_string(size_bytes);
  info_.size_bytes = size_bytes;
  info_.read_only = read_only;
  info_.can_trim = !read_only;
  info_.can_fast_zero = !read_only;
  info_.zero_initialised = true;
}

Status NullDevice::changeable(std::uint64_t offset, std::uint64_t length) const {
  assert_range(info_, offset, length);
  if (!info_.read_only) return {};
  return Error(ErrorCode::kReadOnly, info_.name + ": opened read-only");
}

// Zeros are written out: a buffer may hold what another client has sent.
Task<Status> NullDevice::read(std::uint64_t offset, MutableBytes into) {
  read_now(offset, into);
  co_return Status();
}

Task<Status> NullDevice::write(std::uint64_t offset, ConstBytes from, WriteFlags) {
  co_return changeable(offset, from.size());
}

Task<Status> NullDevice::flush() { co_return Status(); }

Task<Status> NullDevice::trim(std::uint64_t offset, std::uint64_t length, WriteFlags) {
  co_return changeable(offset, length);
}

Task<Status> NullDevice::write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroFlags) {
  co_return changeable(offset, length);
}

Task<Result<std::vector<Extent>>> NullDevice::extents(std::uint64_t offset, std::uint64_t length) {
  assert_range(info_, offset, length);
  std::vector<Extent> all = {{offset, length, true, true}};
  co_return all;
}

bool NullDevice::read_now(std::uint64_t offset, MutableBytes into) {
  assert_range(info_, offset, into.size());
  std::fill(into.begin(), into.end(), std::byte{0});
  return true;
}

bool NullDevice::write_now(std::uint64_t offset, ConstBytes from) {
  assert_range(info_, offset, from.size());
  return !info_.read_only;
}

Task<Status> NullDevice::close() { co_return Status(); }

}  // namespace blockmig
